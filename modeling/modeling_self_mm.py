"""Self-MM: a multimodal and three unimodal tasks on shared encoders, the unimodal labels generated during training."""

import torch
from torch import nn
from transformers import PretrainedConfig

from configuration.configuration_self_mm import SelfMMConfig
from modeling.modeling_multimodal import (
    MultimodalOutput,
    MultimodalPreTrainedModel,
    SequenceEncoder,
    first_valid_state,
    mean_state,
    weighted_multitask_loss,
)


class SelfMMModel(MultimodalPreTrainedModel):
    """
    Self-MM (Yu, Xu, Yuan and Wu, AAAI 2021, "Learning Modality-Specific Representations with Self-Supervised Multi-Task
    Learning for Multimodal Sentiment Analysis"), with its heads.

    Text is represented by the text encoder's state at the first token (or, for `text_values`, by an LSTM's end state),
    audio and vision by their LSTMs' end states; heads over each, and over the three together, predict the sentiment.
    Only `logits`, from all of them together, is the model's answer; the unimodal predictions are there to be looked at.

    The unimodal labels are an input of forward: `training.label_generation` makes them while the model trains, and
    CH-SIMS has them from annotators. A missing modality is represented by zeros, its LSTM's state before the first
    step.
    """

    config_class = SelfMMConfig

    def __init__(self, config: SelfMMConfig):
        super().__init__(config)
        sizes = {}
        for modality in config.modalities:
            encoder: nn.Module
            if modality == "text" and isinstance(config.text_config, PretrainedConfig):
                encoder, sizes[modality] = self.build_token_encoder(), config.text_config.hidden_size
            else:
                encoder = SequenceEncoder(
                    getattr(config, f"{modality}_feature_size"),
                    getattr(config, f"{modality}_hidden_size"),
                    getattr(config, f"{modality}_projection_size"),
                    config.sequence_dropout,
                )
                sizes[modality] = encoder.output_size
            self.add_module(f"{modality}_encoder", encoder)
        self.heads = nn.ModuleDict(
            {
                task: _Head(
                    sum(sizes.values()) if task == "fusion" else sizes[task],
                    getattr(config, f"{task}_size"),
                    getattr(config, f"{task}_dropout"),
                    config.head_layers,
                )
                for task in ("fusion", *config.unimodal_tasks)
            }
        )
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        text_values: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        vision_values: torch.Tensor | None = None,
        vision_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        text_labels: torch.Tensor | None = None,
        audio_labels: torch.Tensor | None = None,
        vision_labels: torch.Tensor | None = None,
    ) -> MultimodalOutput:
        """
        Args:
            input_ids, attention_mask, token_type_ids (`torch.LongTensor` of shape `(B, T_t)`):
                Token ids for `config.text_config`.
            text_values (`torch.FloatTensor` of shape `(B, T_t, text_feature_size)`):
                Text features where there is no text encoder; `attention_mask` is their mask.
            audio_values, vision_values (`torch.FloatTensor` of shape `(B, T, feature_size)`): Features per step.
            audio_attention_mask, vision_attention_mask (`torch.Tensor` of shape `(B, T)`): One at valid steps.
            labels (`torch.FloatTensor` of shape `(B,)`): Multimodal labels; with them comes the loss.
            text_labels, audio_labels, vision_labels (`torch.FloatTensor` of shape `(B,)`):
                Unimodal labels; a task whose labels are not given has no part in the loss.
        """
        sequences = self.sequences(
            input_ids,
            attention_mask,
            token_type_ids,
            text_values,
            audio_values,
            audio_attention_mask,
            vision_values,
            vision_attention_mask,
        )
        represented = {modality: self._represent(modality, sequence) for modality, sequence in sequences.items()}
        represented["fusion"] = torch.cat([represented[modality] for modality in self.config.modalities], dim=-1)
        answers = {task: head(represented[task]) for task, head in self.heads.items()}
        logits = {task: answer[0] for task, answer in answers.items()}
        states = {f"{task}_state": answer[1] for task, answer in answers.items()}

        loss = None
        if labels is not None:
            given = {"text": text_labels, "audio": audio_labels, "vision": vision_labels}
            unimodal = {
                task: (logits[task], targets, sequences[task].present)
                for task, targets in given.items()
                if targets is not None and task in self.config.unimodal_tasks
            }
            loss = weighted_multitask_loss(logits["fusion"], labels, unimodal)
        return MultimodalOutput(
            loss=loss,
            logits=logits.pop("fusion"),
            **{f"{task}_logits": value for task, value in logits.items()},
            **states,
        )

    def _represent(self, modality, sequence):
        if modality == "text" and self.config.text_config is not None:
            return first_valid_state(sequence) if self.config.text_pooling == "first" else mean_state(sequence)
        return self.get_submodule(f"{modality}_encoder")(sequence)


class _Head(nn.Module):
    """F* = ReLU(W1 F + b1), then the prediction W2 F* + b2 (paper) or W3 ReLU(W2 F* + b2) + b3 (authors' code)."""

    def __init__(self, input_size: int, size: int, dropout: float, layers: int):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.space = nn.Linear(input_size, size)
        self.hidden = nn.Linear(size, size) if layers == 3 else None
        self.output = nn.Linear(size, 1)

    def forward(self, representation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the prediction (B, 1) and F* (B, size)."""
        state = torch.relu(self.space(self.dropout(representation)))
        hidden = state if self.hidden is None else torch.relu(self.hidden(state))
        return self.output(hidden), state

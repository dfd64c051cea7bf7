"""What Self-MM and SUGRM share: a multimodal and unimodal tasks on shared representations, and their loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from configuration.configuration_multitask import MultitaskConfig
from modeling.modality_sequence import ModalitySequence, last_valid_state, left_align
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel, matching_labels
from modeling.multimodal_transformer import MultimodalTransformer
from modeling.recalibration import ModalityRecalibration
from modeling.recurrent import LSTMEncoders
from modeling.sparse_phased_transformer import SparsePhasedTransformer


class MultitaskModel(MultimodalPreTrainedModel):
    """
    Base of the architectures that predict the target from all modalities and, as tasks of their own, the sentiment from
    each: the optional recalibration of the features, one representation per modality, heads, and the weighted loss.

    A subclass says how modalities are represented (`represent`) and fills `self.heads`: by task ("fusion" and those of
    `config.unimodal_tasks`) a module that returns the prediction (B, num_labels), or (B, 1) of a unimodal task, and the
    state F* (B, size), whose width is in `self.state_sizes`.

    Only `logits`, from all modalities together, is the model's answer; the unimodal predictions are there to be looked
    at. The unimodal labels are an input of forward: `training.label_generation` makes them while the model trains, and
    CH-SIMS has them from annotators.
    """

    config_class = MultitaskConfig
    heads: nn.ModuleDict
    state_sizes: dict[str, int]

    def __init__(self, config: MultitaskConfig):
        super().__init__(config)
        self.input_sizes = self.build_inputs()
        self.recalibration = None
        if config.recalibration:
            self.recalibration = ModalityRecalibration(self.input_sizes, config.recalibration_reduction)

    def represent(self, sequences: dict[str, ModalitySequence]) -> dict[str, torch.Tensor]:
        """One vector (B, d) per modality."""
        raise NotImplementedError

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
                Text features where there is no text encoder; `attention_mask` is their mask. Where there is one, its
                last hidden states of width `text_config.hidden_size`, computed before, in place of `input_ids`.
            audio_values, vision_values (`torch.FloatTensor` of shape `(B, T, feature_size)`): Features per step.
            audio_attention_mask, vision_attention_mask (`torch.Tensor` of shape `(B, T)`): One at valid steps.
            labels (`torch.Tensor`): Multimodal labels; with them comes the loss (see `prediction_loss`).
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
        if self.recalibration is not None:
            sequences = self.recalibration(sequences)
        represented = self.represent(sequences)
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
            if self.config.unimodal_tasks:
                loss = weighted_multitask_loss(logits["fusion"], labels, unimodal)
            else:
                loss = self.prediction_loss(logits["fusion"], labels)
        return MultimodalOutput(
            loss=loss,
            logits=logits.pop("fusion"),
            **{f"{task}_logits": value for task, value in logits.items()},
            **states,
        )


class JointRepresentation(nn.Module):
    """
    An encoder that reads all modalities, and the state at each one's last valid step; zeros for a missing modality.

    Args:
        input_sizes (`dict`): Features per step by modality.
        config (`MultitaskConfig`): `sequence_encoder` says which one, the fields after it its sizes.
    """

    def __init__(self, input_sizes: dict[str, int], config: MultitaskConfig):
        super().__init__()
        self.encoder: LSTMEncoders | MultimodalTransformer | SparsePhasedTransformer
        dropouts: dict[str, Any] = {
            "attention_dropout": config.attention_dropout,
            "relu_dropout": config.relu_dropout,
            "residual_dropout": config.residual_dropout,
            "embedding_dropout": config.embedding_dropout,
        }
        size, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
        if config.sequence_encoder == "spt":
            self.encoder = SparsePhasedTransformer(
                input_sizes,
                size,
                layers,
                heads,
                stride=config.spt_stride,
                radii=config.spt_radii,
                input_shifts=config.spt_input_shifts,
                **dropouts,
            )
        elif config.sequence_encoder == "transformer":
            self.encoder = MultimodalTransformer(input_sizes, size, layers, heads, **dropouts)
        else:
            self.encoder = LSTMEncoders(input_sizes, size)
        self.output_sizes = self.encoder.output_sizes

    def forward(self, sequences: dict[str, ModalitySequence]) -> dict[str, torch.Tensor]:
        """(B, d) by modality."""
        aligned = {modality: left_align(sequence)[0] for modality, sequence in sequences.items()}
        return {modality: last_valid_state(states) for modality, states in self.encoder(aligned).items()}


def weighted_multitask_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    unimodal: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """
    Mean absolute error of the multimodal task plus that of each unimodal task, there weighted sample by sample with
    W_s = tanh|y_s - y_m| (Self-MM, equation 10; SUGRM, section 3.4):

        L = 1/B sum_i ( |m_i - y_m,i| + sum_s W_s,i |p_s,i - y_s,i| )

    A sample that lacks a modality has no term for it.

    Args:
        logits (`torch.Tensor` of shape `(B, 1)`): Multimodal predictions m.
        labels (`torch.Tensor` of shape `(B,)` or `(B, 1)`): Multimodal labels y_m.
        unimodal (`dict`): By modality, (predictions p_s (B, 1), labels y_s (B,), present (B,) bool).
    """
    labels = matching_labels("labels", labels, logits)
    loss = (logits.reshape(-1).float() - labels).abs().mean()
    for modality, (predictions, targets, present) in unimodal.items():
        targets = matching_labels(f"{modality}_labels", targets, predictions)
        weights = torch.tanh((targets - labels).abs()) * present
        loss = loss + (weights * (predictions.reshape(-1).float() - targets).abs()).mean()
    return loss

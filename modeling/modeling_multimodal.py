"""What the models of all architectures share: inputs and their checks, output, text encoder."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from configuration.configuration_multimodal import MultimodalConfig
from modeling.modality_sequence import ModalitySequence, at_least_one_step, left_align, restore, untouched


@dataclass
class MultimodalOutput(ModelOutput):
    """
    Output of every architecture. B is the batch size; what an architecture does not have is None.

    Args:
        loss (`torch.Tensor` of shape `(1,)`): Training loss, where `labels` were given.
        logits (`torch.Tensor` of shape `(B, num_labels)`): The prediction from all modalities together.
        text_logits, audio_logits, vision_logits (`torch.Tensor` of shape `(B, num_labels)`):
            The prediction from one modality. Where a sample lacks the modality it is finite and means nothing.
        text_state, audio_state, vision_state, fusion_state (`torch.Tensor` of shape `(B, d)`):
            The representation under each prediction.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    text_logits: torch.Tensor | None = None
    audio_logits: torch.Tensor | None = None
    vision_logits: torch.Tensor | None = None
    text_state: torch.Tensor | None = None
    audio_state: torch.Tensor | None = None
    vision_state: torch.Tensor | None = None
    fusion_state: torch.Tensor | None = None


class MultimodalPreTrainedModel(PreTrainedModel):
    """
    Base class of every architecture.

    A modality is missing for a sample where its mask row is all zero, and for the batch where its argument is None.
    Only the mask tells padding from data: it may lie on either side, and what the padding holds does not matter.

    The attributes `text_encoder`, `audio_encoder` and `vision_encoder` hold what belongs to one modality before fusion,
    `sequence_encoder` what encodes the modalities together; the trainer's optimiser groups go by these names.
    """

    config_class = MultimodalConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    text_encoder_reads_others = (
        False  # whether `encode_text` needs the other modalities, and runs without any text, too
    )
    accepts_loss_kwargs = False  # the loss is a mean over the batch: Trainer must divide it under gradient accumulation
    _supports_sdpa = True
    _supports_flash_attn = True
    supports_gradient_checkpointing = True

    def __init__(self, config: MultimodalConfig):
        super().__init__(config)
        if not config.modalities:
            raise ValueError(
                f"{type(config).__name__} has no modality; set `text_config` or `text_feature_size`, "
                "`audio_feature_size` or `vision_feature_size` to what the data has."
            )

    def _init_weights(self, module: nn.Module) -> None:
        # What a module says of itself: PyTorch's own initialisation, which the papers' code relies on, or that of a
        # module here. The library's is N(0, 0.02).
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """
        See `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: `device_map` lets something other than the text encoder wait on disk, or beside a GPU, until it
                is called: layers whose weights are read without a call would not be there.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        _check_placement(model)
        return loaded

    @classmethod
    def from_text_encoder(cls, config: MultimodalConfig, name_or_path: str, **kwargs) -> "MultimodalPreTrainedModel":
        """
        A new model around a pretrained text encoder, for training: everything else starts at random.

        Args:
            config (`MultimodalConfig`): The model's configuration; its `text_config` becomes the encoder's.
            name_or_path (`str`): The encoder's id on the Hub or its folder.
            kwargs: Passed to `AutoModel.from_pretrained` of the encoder (`revision`, `token`, `cache_dir`, ...).
        """
        if config.text_feature_size is not None:
            raise ValueError(
                "A text encoder needs token ids, but `text_feature_size` says that text comes as `text_values`; "
                "leave the text encoder out, or use data with raw text."
            )
        text_config = AutoConfig.from_pretrained(name_or_path, **kwargs)
        text_config.dtype = torch.float32  # checkpoints in half precision train in float32 under autocast
        encoder = AutoModel.from_pretrained(
            name_or_path, config=text_config, dtype=torch.float32, **_without_pooler(text_config), **kwargs
        )
        text_config.name_or_path = ""
        config.text_config = text_config
        model = cls(config)
        model.get_submodule("text_encoder").load_state_dict(encoder.state_dict())
        return model

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
            labels (`torch.Tensor`): Labels; with them comes the loss (see `prediction_loss`).
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
        return self.predict(sequences, labels)

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """
        What an architecture computes: from one masked sequence per modality that it reads, in the order text, audio,
        vision, to its output; with labels, the loss too.
        """
        raise NotImplementedError

    @property
    def read_modalities(self) -> tuple[str, ...]:
        """Those of the configuration's modalities that `predict` gets; what it does not read is not encoded."""
        return self.config.modalities

    def prediction_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, present: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The mean absolute error of a regression; the cross-entropy of a single label, without the samples whose label is
        -100; the binary cross-entropy of several labels.

        Args:
            logits (`torch.Tensor` of shape `(B, num_labels)`): Predictions.
            labels (`torch.Tensor`): (B,) float or (B, num_labels) float, and (B,) int64 for a single label.
            present (`torch.Tensor` of shape `(B,)`, *optional*): False at samples that are to be left out.
        """
        counted = torch.ones(logits.shape[0], dtype=torch.bool, device=logits.device) if present is None else present
        if self.config.problem_type == "single_label_classification":
            if labels.numel() != logits.shape[0] or labels.is_floating_point() or labels.dtype == torch.bool:
                raise ValueError(
                    f"`labels` must hold one class (int64) per sample, {logits.shape[0]}; got {tuple(labels.shape)} of "
                    f"{labels.dtype}."
                )
            labels = labels.reshape(-1).long()
            losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
            counted = counted & (labels != -100)
        else:
            targets = matching_labels("labels", labels, logits).reshape(logits.shape)
            if self.config.problem_type == "multi_label_classification":
                losses = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
            else:
                losses = (logits.float() - targets).abs()
            losses = losses.mean(dim=-1)
        # A batch in which no sample counts has a loss of zero, not of 0 / 0.
        return (losses * counted).sum() / counted.sum().clamp(min=1)

    def build_inputs(self) -> dict[str, int]:
        """Makes `text_encoder`, where the configuration has one, and returns the features per step by modality."""
        sizes = {}
        for modality in self.config.modalities:
            if modality == "text" and isinstance(self.config.text_config, PretrainedConfig):
                self.text_encoder = self.build_token_encoder()
                sizes[modality] = self.config.text_config.hidden_size
            else:
                sizes[modality] = getattr(self.config, f"{modality}_feature_size")
        return sizes

    def build_token_encoder(self) -> nn.Module:
        """The text encoder of `config.text_config`, without a pooler, which no architecture reads."""
        text_config = self.config.text_config
        return AutoModel.from_config(text_config, **_without_pooler(text_config))

    def sequences(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        text_values: torch.Tensor | None = None,
        audio_values: torch.Tensor | None = None,
        audio_attention_mask: torch.Tensor | None = None,
        vision_values: torch.Tensor | None = None,
        vision_attention_mask: torch.Tensor | None = None,
    ) -> dict[str, ModalitySequence]:
        """
        Checks forward's arguments and turns them into one sequence per modality that is read: the text
        encoder's last hidden states (or `text_values`), audio and vision features. Masks that are not given are all
        valid.

        Raises:
            ValueError: for an argument of the wrong shape, for one that the checkpoint has no use for, for none at all,
                for a batch without samples.
        """
        config = self.config
        if config.text_config is None and input_ids is not None:
            raise ValueError(
                "`input_ids` came, but this checkpoint has no text encoder; give `text_values` with "
                f"{config.text_feature_size} features per step."
                if config.text_feature_size is not None
                else "`input_ids` came, but this checkpoint was trained without text; leave text out."
            )
        given = {
            "text": (text_values, attention_mask),
            "audio": (audio_values, audio_attention_mask),
            "vision": (vision_values, vision_attention_mask),
        }
        first = next((v for v in (input_ids, text_values, audio_values, vision_values) if v is not None), None)
        if first is None:
            raise ValueError(f"No modality came; give at least one of {', '.join(self.input_names)}.")
        batch = first.shape[0]
        if batch == 0:
            raise ValueError("The batch has no samples; give at least one.")
        found: dict[str, ModalitySequence] = {}
        for modality, (values, mask) in given.items():
            if modality in config.modalities and modality not in self.read_modalities:
                continue
            feature_size = getattr(config, f"{modality}_feature_size")
            if modality == "text" and config.text_config is not None:
                if text_values is not None:
                    found["text"] = self._encoded_before(first, input_ids, text_values, attention_mask)
                if input_ids is not None and (input_ids.dim() != 2 or input_ids.shape[0] != batch):
                    shape = tuple(input_ids.shape)
                    raise ValueError(f"`input_ids` must have the shape (batch {batch}, tokens); got {shape}.")
            elif feature_size is not None:
                found[modality] = self._feature_sequence(first, modality, feature_size, values, mask)
            elif values is not None:
                raise ValueError(
                    f"`{modality}_values` came, but this checkpoint was trained without {modality}; leave it out."
                )
        if config.text_config is not None and "text" in self.read_modalities and "text" not in found:
            text = self._encode_tokens(first, input_ids, attention_mask, token_type_ids, found)
            found = {"text": text, **found}
        return found

    def encode_text(
        self, inputs: dict[str, torch.Tensor], mask: torch.Tensor, others: dict[str, ModalitySequence]
    ) -> torch.Tensor:
        """
        The text encoder's last hidden states (B, T, hidden_size). An architecture in which the text encoder reads the
        other modalities, too, has its own.

        Args:
            inputs (`dict`): Arguments of the text encoder; tokens are left-aligned.
            mask (`torch.Tensor` of shape `(B, T)`): Which of them are tokens.
            others (`dict`): The other modalities' sequences.
        """
        return self.get_submodule("text_encoder")(**inputs).last_hidden_state

    def get_input_embeddings(self) -> nn.Module | None:  # type: ignore[override]
        """The text encoder's token embeddings, which are sharded apart from the rest; None without a text encoder."""
        encoder = getattr(self, "text_encoder", None)
        return encoder.get_input_embeddings() if isinstance(encoder, PreTrainedModel) else None

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the arguments that carry the modalities of this checkpoint."""
        names = {modality: f"{modality}_values" for modality in self.config.modalities}
        if self.config.text_config is not None:
            names["text"] = "input_ids"
        return tuple(names.values())

    def _feature_sequence(self, first, modality, feature_size, values, mask) -> ModalitySequence:
        """Of as many samples, and where they are, as in `first`; the model may be on several devices."""
        batch = first.shape[0]
        if values is None:
            values = torch.zeros(batch, 0, feature_size, dtype=self.dtype, device=first.device)
            mask = torch.zeros(batch, 0, dtype=torch.bool, device=first.device)
        if values.dim() != 3 or values.shape[0] != batch:
            raise ValueError(
                f"`{modality}_values` must have the shape (batch {batch}, steps, {feature_size}); got "
                f"{tuple(values.shape)}."
            )
        if values.shape[2] != feature_size:
            source = "the feature set named in its processor_config.json"
            if modality == "text" and self.config.text_config is not None:
                source = "its text encoder, whose last hidden states they are"
            raise ValueError(
                f"`{modality}_values` has {values.shape[2]} features per step but this checkpoint was trained on "
                f"{feature_size}; extract them with {source}."
            )
        mask_name = "attention_mask" if modality == "text" else f"{modality}_attention_mask"
        mask = _checked_mask(mask_name, mask, values.shape[:2], values.device)
        # Padding may hold anything, NaN included; a zero in its place keeps it out of the gradients too.
        return at_least_one_step(values.to(self.dtype), mask).cleared()

    def _encoded_before(self, first, input_ids, text_values, attention_mask) -> ModalitySequence:
        """The text encoder's last hidden states, which came in place of tokens."""
        if input_ids is not None:
            raise ValueError(
                "`text_values` came beside `input_ids`, but this checkpoint has a text encoder, whose last hidden "
                "states of these tokens they would be; give one of them."
            )
        if self.text_encoder_reads_others:
            raise ValueError(
                "`text_values` came, but this checkpoint's text encoder reads the other modalities, too, so that its "
                "states cannot be computed before; give `input_ids`."
            )
        size = self.config.text_config.hidden_size
        values, mask = self._feature_sequence(first, "text", size, text_values, attention_mask)
        return ModalitySequence(values + untouched(self.get_submodule("text_encoder")), mask)

    def _encode_tokens(self, first, input_ids, attention_mask, token_type_ids, others) -> ModalitySequence:
        encoder, text_config = self.get_submodule("text_encoder"), self.config.text_config
        if input_ids is None or input_ids.shape[1] == 0:
            # Processes that share an encoder's parameters gather them together: all run it, or none.
            in_processes = torch.distributed.is_available() and torch.distributed.is_initialized()
            if self.text_encoder_reads_others or in_processes:
                nothing = torch.zeros(first.shape[0], 1, dtype=torch.long, device=first.device)
                return self._encode_tokens(first, nothing, nothing, None, others)
            values = torch.zeros(first.shape[0], 1, text_config.hidden_size, dtype=self.dtype, device=first.device)
            return ModalitySequence(values + untouched(encoder), torch.zeros_like(values[..., 0], dtype=torch.bool))
        longest = longest_input(encoder)
        if longest is not None and input_ids.shape[1] > longest:
            raise ValueError(
                f"`input_ids` has {input_ids.shape[1]} tokens but the text encoder reads at most {longest}; truncate "
                "the text with the processor's `max_text_length`."
            )
        mask = _checked_mask("attention_mask", attention_mask, input_ids.shape, input_ids.device)
        # Encoders number positions from the first column (BERT) or from the first token that is no padding (RoBERTa):
        # with the valid tokens in front, and padding tokens behind them, both count alike wherever the padding was.
        (_, aligned), order = left_align(ModalitySequence(input_ids.unsqueeze(-1), mask))
        padding = getattr(text_config, "pad_token_id", None) or 0
        # A row without any token would be a softmax over nothing: let the encoder read its first position, and drop the
        # result by the mask.
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        readable = aligned | (first & ~mask.any(dim=1, keepdim=True))
        inputs = {
            "input_ids": input_ids.gather(1, order).masked_fill(~aligned, padding),
            "attention_mask": readable.to(torch.long),
        }
        if token_type_ids is not None and "token_type_ids" in inspect.signature(encoder.forward).parameters:
            inputs["token_type_ids"] = token_type_ids.gather(1, order).masked_fill(~aligned, 0)
        return ModalitySequence(restore(self.encode_text(inputs, aligned, others), order), mask)


def longest_input(encoder: nn.Module) -> int | None:
    """Tokens that an encoder reads; RoBERTa's kin keep the positions up to `padding_idx` for padding."""
    positions = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if isinstance(positions, nn.Embedding) and positions.padding_idx is not None:
        return positions.num_embeddings - positions.padding_idx - 1
    return getattr(encoder.config, "max_position_embeddings", None)


def _check_placement(model: nn.Module) -> None:
    places = getattr(model, "hf_device_map", {})
    waiting = {"disk"} if set(places.values()) <= {"cpu", "disk"} else {"cpu", "disk"}
    found = [name for name, place in places.items() if place in waiting and name.split(".")[0] != "text_encoder"]
    if found:
        parts = [name for name, part in model.named_children() if any(True for _ in part.parameters())]
        example = ", ".join(f'"{part}": ' + ('"disk"' if part == "text_encoder" else "0") for part in parts)
        raise ValueError(
            f"`device_map` puts {', '.join(name or 'the whole model' for name in found)} on {places[found[0]]} until "
            "it is called; this is for the text encoder alone. Name the device of every part, such as "
            f"{{{example}}}."
        )


def _without_pooler(text_config) -> dict[str, bool]:
    """Constructor argument that leaves the pooler out, for encoders that take it."""
    found = MODEL_MAPPING[type(text_config)]
    model_class: Any = found[0] if isinstance(found, (list, tuple)) else found
    takes_it = "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if takes_it else {}


def _checked_mask(name: str, mask: torch.Tensor | None, shape: torch.Size, device: torch.device) -> torch.Tensor:
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    if mask.shape != shape:
        raise ValueError(f"`{name}` must have the shape {tuple(shape)} of what it masks; got {tuple(mask.shape)}.")
    return mask.bool()


def matching_labels(name: str, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """
    Labels as float32 in one dimension, as many as there are predictions.

    Raises:
        ValueError: unless there is one per prediction.
    """
    if labels.numel() != logits.numel():
        raise ValueError(
            f"`{name}` must hold a number per prediction, {tuple(logits.shape)}; got {tuple(labels.shape)}."
        )
    return labels.reshape(-1).float()

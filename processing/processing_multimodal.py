"""The processor that is saved beside the weights: features from media, tokens, padding, masks, normalisation."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.dynamic_module_utils import custom_object_save
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from processing.feature_extraction import difference, is_feature_sequence
from processing.media_features import EXTRACTORS, ClipFeatures, MediaFeatures
from processing.media_reading import MediaError, MediaLimits

logger = logging.get_logger(__name__)


class MultimodalProcessor(ProcessorMixin):
    r"""
    Turns samples into a model's padded inputs with their masks.

    Args:
        tokenizer (`PreTrainedTokenizerBase`, *optional*): The text encoder's, where text comes as text.
        text_input (`str`, *optional*):
            How text comes: "tokens" (text or token ids), "values" (features per step) or None where the checkpoint was
            trained without text.
        text_feature_size, audio_feature_size, vision_feature_size (`int`, *optional*):
            Features per step; None where the checkpoint lacks the modality.
        text_feature_set, audio_feature_set, vision_feature_set (`str`, *optional*):
            What the features are and what extracts them, in words, for whoever brings data of their own.
        audio_extractor, vision_extractor (`dict`, *optional*):
            What extracts the features from media: the settings of a `FeatureExtractor`, with its name, rate, options
            and versions. None where no extractor of this collection makes them.
        max_text_length (`int`, *optional*):
            Tokens, special ones included, beyond which a text is cut; what is cut is reported.
        normalization (`dict`, *optional*):
            By modality, `{"mean": [...], "std": [...]}` over the valid steps of the training split; features become
            (x - mean) / std.
    """

    def __init__(
        self,
        tokenizer=None,
        text_input=None,
        text_feature_size=None,
        audio_feature_size=None,
        vision_feature_size=None,
        text_feature_set=None,
        audio_feature_set=None,
        vision_feature_set=None,
        audio_extractor=None,
        vision_extractor=None,
        max_text_length=None,
        normalization=None,
    ):
        if text_input not in ("tokens", "values", None):
            raise ValueError(f"`text_input` must be 'tokens', 'values' or None; got {text_input!r}.")
        if (text_input == "tokens") != (tokenizer is not None):
            raise ValueError(
                f"A tokenizer goes with `text_input='tokens'` and with nothing else; got {text_input!r} and "
                f"{'a' if tokenizer is not None else 'no'} tokenizer."
            )
        if (text_input == "values") != (text_feature_size is not None):
            raise ValueError(
                f"`text_feature_size` goes with `text_input='values'` and with nothing else; got {text_feature_size!r} "
                f"and {text_input!r}."
            )
        sizes = {"text": text_feature_size, "audio": audio_feature_size, "vision": vision_feature_size}
        for modality, statistics in (normalization or {}).items():
            size = sizes.get(modality)
            mean, std = np.asarray(statistics["mean"]), np.asarray(statistics["std"])
            if size is None or mean.shape != (size,) or std.shape != (size,) or not (std > 0).all():
                raise ValueError(
                    "`normalization` must hold one mean and one positive std per feature of a modality it has; "
                    f"got {mean.size} and {std.size} for {modality!r} with feature size {size}."
                )
        if max_text_length is not None:
            special = tokenizer.num_special_tokens_to_add() if tokenizer is not None else 0
            if max_text_length < max(special, 1):
                raise ValueError(
                    f"`max_text_length` must have room for the {special} special tokens; got {max_text_length}."
                )
        self.text_input = text_input
        self.text_feature_size = text_feature_size
        self.audio_feature_size = audio_feature_size
        self.vision_feature_size = vision_feature_size
        self.text_feature_set = text_feature_set
        self.audio_feature_set = audio_feature_set
        self.vision_feature_set = vision_feature_set
        self.audio_extractor = _checked_extractor("audio", audio_extractor, audio_feature_size)
        self.vision_extractor = _checked_extractor("vision", vision_extractor, vision_feature_size)
        self.max_text_length = max_text_length
        self.normalization = normalization or {}
        if tokenizer is not None:
            super().__init__(tokenizer)
        else:
            self.tokenizer = None
            self.chat_template = None

    @property
    def model_input_names(self) -> list[str]:
        names = ["input_ids" if self.text_input == "tokens" else "text_values", "attention_mask"]
        names = names if self.text_input else []
        for modality in ("audio", "vision"):
            if getattr(self, f"{modality}_feature_size") is not None:
                names += [f"{modality}_values", f"{modality}_attention_mask"]
        return names

    def __call__(
        self,
        text=None,
        audio_values=None,
        vision_values=None,
        text_values=None,
        input_ids=None,
        token_type_ids=None,
        video=None,
        audio=None,
        sampling_rate=None,
        transcriber=None,
    ):
        """
        One sample or a list of samples; a sample that lacks a modality has None, an empty text or an empty sequence.

        Args:
            text (`str` or list of `str`): Raw text; of media, their transcript, or a .txt, .srt or .vtt file.
            input_ids (list of `int` or list of those): The text's token ids, in place of the text.
            token_type_ids (like `input_ids`, *optional*): Segment of each token, where there is more than one.
            text_values, audio_values, vision_values (array (steps, features) or list of those):
                Sequences without padding.
            video (path or list of paths): Video files, in place of features. Sound, pictures and, with a
                `transcriber`, words come from them, as far as the checkpoint reads them.
            audio (path, array or list of those): Sound files, or samples with their `sampling_rate`.
            sampling_rate (`int`, *optional*): Samples per second of `audio` that comes as arrays.
            transcriber (`str` or `Transcriber`, *optional*): A speech recognition model, for media without `text`.

        Returns:
            `BatchFeature`: the model's inputs as tensors. What no sample has is left out.

        Raises:
            ValueError: for an argument that the checkpoint has no use for, wrong feature sizes, features of another
                kind, NaN or infinities, and differing numbers of samples.
            MediaError: for media that cannot be read, that are beyond the limits, or in which nothing is found that the
                checkpoint reads.
        """
        if video is not None or audio is not None:
            if any(one is not None for one in (audio_values, vision_values, text_values, input_ids)):
                raise ValueError("Give media or features, not both: `video` or `audio` came beside features.")
            columns = self._columns_of_media(video, audio, text, sampling_rate, transcriber)
            return self(**columns)
        if text is not None and input_ids is not None:
            raise ValueError("`text` and `input_ids` are the same input; give one of them.")
        if isinstance(text, str):
            text = [text]
        if token_type_ids is not None and input_ids is None:
            raise ValueError("`token_type_ids` goes with `input_ids`; leave it out.")
        if input_ids is not None and (
            len(input_ids) == 0 or (np.ndim(input_ids[0]) == 0 and not any(one is None for one in input_ids))
        ):
            input_ids = [input_ids]
            token_type_ids = None if token_type_ids is None else [token_type_ids]
        sequences = {
            "text": _as_batch(text_values),
            "audio": _as_batch(audio_values),
            "vision": _as_batch(vision_values),
        }
        if (text is not None or input_ids is not None) and self.text_input != "tokens":
            raise ValueError(
                "`text` came, but this checkpoint has no text encoder: "
                + (
                    f"it reads `text_values` with {self.text_feature_size} features per step"
                    f"{_named(self.text_feature_set)}."
                    if self.text_input == "values"
                    else "it was trained without text; leave text out."
                )
            )
        counts = {
            name: len(values) for name, values in {"text": text, "input_ids": input_ids}.items() if values is not None
        }
        counts |= {f"{name}_values": len(values) for name, values in sequences.items() if values is not None}
        if not counts:
            raise ValueError(f"No modality came; give at least one of {', '.join(self.model_input_names[::2])}.")
        if 0 in counts.values():
            raise ValueError(f"There must be at least one sample; got {counts}.")
        if len(set(counts.values())) > 1:
            raise ValueError(f"Every modality must have the same number of samples; got {counts}.")

        inputs = {}
        if text is not None:
            input_ids = self.tokenize(text)
        if input_ids is not None:
            inputs.update(self._pad_tokens(input_ids, token_type_ids))
        for modality, values in sequences.items():
            if values is not None:
                inputs.update(self._pad_features(modality, values))
        if not inputs:
            raise ValueError("Every sample lacks every modality; give at least one that has something.")
        return BatchFeature(inputs)

    def extract(
        self,
        video=None,
        audio=None,
        transcript=None,
        transcriber=None,
        sampling_rate: int | None = None,
        start: float = 0.0,
        stop: float | None = None,
        limits: MediaLimits | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> ClipFeatures:
        """
        What the checkpoint reads of one clip, as the features that it was trained on.

        Args:
            limits ([`MediaLimits`], *optional*): What is refused.
            transcriber: As of the processor.
            video, audio, transcript, sampling_rate, start, stop, progress: As of `MediaFeatures`.

        Raises:
            MediaError: for media that cannot be read or are beyond the limits.
        """
        extractors = {modality: getattr(self, f"{modality}_extractor") for modality in EXTRACTORS}
        features = MediaFeatures(**extractors, transcriber=transcriber, limits=limits)
        clip = features(
            video, audio, transcript, start=start, stop=stop, sampling_rate=sampling_rate, progress=progress
        )
        for modality in EXTRACTORS:
            if getattr(self, f"{modality}_feature_size") is not None and extractors[modality] is None:
                clip.notes.append(
                    f"The checkpoint reads {modality} features{_named(getattr(self, f'{modality}_feature_set'))} that "
                    f"no extractor of its makes; {modality} is left out."
                )
        if self.text_input == "values":
            clip.notes.append(
                f"The checkpoint reads text as features{_named(self.text_feature_set)}, which media do not give; text "
                "is left out."
            )
        elif self.text_input == "tokens" and clip.transcript is None:
            clip.notes.append("There is no transcript; text is left out. Give the words, or a transcriber.")
        return clip

    def clip_columns(self, clip: ClipFeatures, start: float | None = None, stop: float | None = None) -> dict[str, Any]:
        """
        The arguments `text`, `audio_values` and `vision_values` of a clip, or of a part of it, in seconds: those that
        the checkpoint reads and that are not empty.
        """
        columns = clip.columns() if start is None or stop is None else clip.between(start, stop)
        if self.text_input != "tokens" or not columns.get("text", "").strip():
            columns.pop("text", None)
        return {name: value for name, value in columns.items() if len(value)}

    def _columns_of_media(self, video, audio, text, sampling_rate, transcriber) -> dict[str, list]:
        many = isinstance(video, (list, tuple)) or (video is None and isinstance(audio, (list, tuple)))
        given = {"video": video, "audio": audio, "transcript": text}
        batches = {name: value if many else [value] for name, value in given.items() if value is not None}
        if len({len(batch) for batch in batches.values()}) > 1:
            counts = {name: len(batch) for name, batch in batches.items()}
            raise ValueError(f"Every argument must have the same number of samples; got {counts}.")
        rows = []
        for values in zip(*batches.values(), strict=True):
            clip = self.extract(
                **dict(zip(batches, values, strict=True)), sampling_rate=sampling_rate, transcriber=transcriber
            )
            row = self.clip_columns(clip)
            if not row:
                raise MediaError(" ".join(["Nothing was found that the checkpoint reads.", *clip.notes]))
            for note in clip.notes:
                logger.warning(note)
            rows.append(row)
        names = sorted({name for row in rows for name in row})
        return {name: [row.get(name) for row in rows] for name in names}

    @property
    def token_limit(self) -> int:
        """Tokens, special ones included, beyond which a text is cut."""
        return self.max_text_length or self.tokenizer.model_max_length

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without padding; an empty text has none."""
        limit = self.token_limit
        filled = [index for index, text in enumerate(texts) if text and text.strip()]
        encoded: list[list[int]] = [[] for _ in texts]
        if filled:
            tokens = self.tokenizer([texts[index] for index in filled], verbose=False)["input_ids"]
            too_long = [i for i, ids in enumerate(tokens) if len(ids) > limit]
            if too_long:
                logger.warning(
                    f"{len(too_long)} of {len(texts)} texts are longer than {limit} tokens (the longest has "
                    f"{max(len(tokens[i]) for i in too_long)}) and are cut there."
                )
                cut = self.tokenizer([texts[filled[i]] for i in too_long], truncation=True, max_length=limit)
                for i, ids in zip(too_long, cut["input_ids"], strict=True):
                    tokens[i] = ids
            for index, ids in zip(filled, tokens, strict=True):
                encoded[index] = ids
        return encoded

    def _pad_tokens(self, rows, segments=None) -> dict[str, torch.Tensor]:
        rows = [[] if row is None else row for row in rows]
        longest = max(len(row) for row in rows)
        if longest == 0:
            return {}
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        ids = torch.full((len(rows), longest), pad, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.as_tensor(row, dtype=torch.long)
            mask[i, : len(row)] = 1
        padded = {"input_ids": ids, "attention_mask": mask}
        if segments is not None:
            padded["token_type_ids"] = torch.zeros_like(ids)
            segments = [[] if row is None else row for row in segments]
            if [len(row) for row in segments] != [len(row) for row in rows]:
                raise ValueError("`token_type_ids` must have one number per token of `input_ids`.")
            for i, row in enumerate(segments):
                padded["token_type_ids"][i, : len(row)] = torch.as_tensor(row, dtype=torch.long)
        return padded

    def _pad_features(self, modality: str, rows) -> dict[str, torch.Tensor]:
        size = getattr(self, f"{modality}_feature_size")
        argument = f"{modality}_values"
        if size is None:
            raise ValueError(
                f"`{argument}` came, but this checkpoint "
                + (
                    "reads text as text; give `text`."
                    if modality == "text" and self.text_input == "tokens"
                    else f"was trained without {modality}; leave it out."
                )
            )
        rows = [self._values(modality, row) for row in rows]
        arrays = [np.zeros((0, size), np.float32) if row is None else np.asarray(row, np.float32) for row in rows]
        arrays = [np.zeros((0, size), np.float32) if array.size == 0 else array for array in arrays]
        for i, array in enumerate(arrays):
            if array.ndim != 2:
                raise ValueError(
                    f"`{argument}` must be arrays of shape (steps, {size}); sample {i} has the shape {array.shape}."
                )
            if array.shape[1] != size:
                raise ValueError(
                    f"`{argument}` has {array.shape[1]} features per step (sample {i}) but this checkpoint was trained "
                    f"on {size}{_named(getattr(self, f'{modality}_feature_set'))}; extract them with the same "
                    "feature set."
                )
            if not np.isfinite(array).all():
                raise ValueError(f"`{argument}` must be finite; sample {i} holds NaN or infinities. Replace them.")
        longest = max(len(array) for array in arrays)
        if longest == 0:
            return {}
        values = np.zeros((len(arrays), longest, size), np.float32)
        mask = np.zeros((len(arrays), longest), np.int64)
        for i, array in enumerate(arrays):
            values[i, : len(array)] = self._normalized(modality, array)
            mask[i, : len(array)] = 1
        mask_name = "attention_mask" if modality == "text" else f"{modality}_attention_mask"
        return {argument: torch.from_numpy(values), mask_name: torch.from_numpy(mask)}

    def _values(self, modality: str, row):
        """What a row holds; extracted features must be of the checkpoint's kind."""
        if not is_feature_sequence(row):
            return row
        expected = getattr(self, f"{modality}_extractor", None)
        if expected is not None and row.settings is not None:
            other = difference(expected, row.settings)
            if other is not None:
                raise ValueError(
                    f"`{modality}_values` must be of the kind that the checkpoint was trained on; {other}. Extract "
                    "them with the settings in its processor_config.json."
                )
        return row.values

    def _normalized(self, modality: str, array: np.ndarray) -> np.ndarray:
        statistics = self.normalization.get(modality)
        if statistics is None:
            return array
        return (array - np.asarray(statistics["mean"], np.float32)) / np.asarray(statistics["std"], np.float32)

    # `ProcessorMixin` saves and loads a tokenizer unconditionally; a checkpoint whose text comes as features has none.

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        if self.tokenizer is not None:
            return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        os.makedirs(save_directory, exist_ok=True)
        if self._auto_class is not None:  # loaded from a checkpoint with its code, which goes along
            custom_object_save(self, save_directory, config=self)  # type: ignore[arg-type]  # as the library does
        path = os.path.join(save_directory, "processor_config.json")
        self.to_json_file(path)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", os.path.basename(save_directory)), **kwargs)
        return [path]

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        if (processor_dict or {}).get("text_input") != "tokens":
            return [None]
        return super()._get_arguments_from_pretrained(pretrained_model_name_or_path, processor_dict, **kwargs)


def fit_normalization(rows, modality: str) -> dict[str, list[float]]:
    """
    Mean and standard deviation of each feature over all steps of all rows; a constant feature gets a standard deviation
    of 1, so that it becomes 0.

    Args:
        rows: Iterable of arrays (steps, features), the training split's.
        modality (`str`): For the error message.
    """
    mean, std = feature_statistics(rows)
    if mean is None:
        raise ValueError(f"No training sample has {modality}; leave `normalize` out for it.")
    return {"mean": mean.tolist(), "std": np.where(std > 1e-8, std, 1.0).tolist()}


def feature_statistics(rows) -> tuple[np.ndarray | None, np.ndarray]:
    """
    Mean and standard deviation (features,) of each feature over all steps of all rows, in one pass; no mean where there
    is no step.

    Args:
        rows: Iterable of arrays (steps, features).
    """
    count, origin = 0, None
    total = squares = np.float64(0.0)
    for row in rows:
        array = np.asarray(row, np.float64)
        if len(array) == 0:
            continue
        origin = array[0] if origin is None else origin  # keeps the sums small where the mean is far from zero
        count += len(array)
        total = total + (array - origin).sum(axis=0)
        squares = squares + ((array - origin) ** 2).sum(axis=0)
    if origin is None:
        return None, np.zeros(0)
    shift = total / count
    return origin + shift, np.sqrt(np.maximum(squares / count - shift**2, 0.0))


def _checked_extractor(modality: str, settings, size: int | None) -> dict[str, Any] | None:
    if settings is None:
        return None
    if not isinstance(settings, dict) or settings.get("name") not in EXTRACTORS[modality]:
        raise ValueError(
            f"`{modality}_extractor` must be the settings of one of {', '.join(EXTRACTORS[modality])}, with its "
            f"`name`; got {settings!r}."
        )
    if settings.get("feature_size", size) != size:
        raise ValueError(
            f"`{modality}_extractor` makes {settings['feature_size']} features per step, but "
            f"`{modality}_feature_size` is {size}; they must be equal."
        )
    return settings


def _as_batch(values):
    """One sequence (steps, features) becomes a list of one."""
    if is_feature_sequence(values):
        return [values]
    if values is None or len(values) == 0:
        return values if values is None else [values]
    first = values[0]
    if is_feature_sequence(first):
        return list(values)
    one_sample = first is not None and np.ndim(first) == 1 and np.size(first) > 0
    return [values] if one_sample else list(values)


def _named(feature_set: str | None) -> str:
    return f" ({feature_set})" if feature_set else ""

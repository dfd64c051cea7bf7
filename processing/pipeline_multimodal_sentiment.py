"""The `transformers` pipeline: from media, text, feature arrays or rows to a sentiment or emotions."""

# The base class declares parameters by `**kwargs`, which no pipeline has.
# mypy: disable-error-code="override"

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator
from transformers.utils import logging

from configuration.configuration_multimodal import MODALITIES
from processing.clip_analysis import AnalysisOptions, SampleAnalysis, deviations, noisy
from processing.feature_extraction import is_feature_sequence
from processing.feature_noise import Noise
from processing.pipeline_rows import (
    ANALYSIS,
    ANALYSIS_BATCH_SIZE,
    INPUTS,
    MEDIA,
    SEQUENCES,
    as_columns,
    faces,
    is_media,
    named_masks,
    notes_on_text,
    read_media,
    refuse_unknown_columns,
)

logger = logging.get_logger(__name__)

TASK = "multimodal-sentiment-analysis"
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}


class MultimodalSentimentPipeline(Pipeline):
    """
    Predicts the sentiment, or the emotions, of samples with any of the modalities that a checkpoint was trained with.

    ```python
    pipe = pipeline("multimodal-sentiment-analysis", model="org/name", trust_remote_code=True)
    pipe("what a film")
    pipe("clip.mp4")
    pipe(video="clip.mp4", transcript="clip.srt", window=4.0, drop=["audio"])
    pipe({"text": "what a film", "audio_values": audio, "vision_values": vision})  # arrays (steps, features)
    pipe(text="what a film", audio_values=audio)
    pipe([row, row, row], batch_size=2)
    for prediction in pipe(dataset, batch_size=32): ...
    ```

    A row has the columns `text` (or the text's token ids `input_ids`, with `token_type_ids`), `text_values`,
    `audio_values` and `vision_values`; a string is a row with `text` alone. A column that is absent, None or empty says
    that the sample lacks the modality. Of several forms of the text that which the checkpoint reads is taken, and
    `text` before `input_ids`. `id` and the labels of a corpus (`label`, `text_label`, `audio_label`, `vision_label`,
    `emotions`) are ignored. Features are normalised by the processor: give them as they were extracted.

    Media come as the path of a video or sound file, or as `video` and `audio`, with what is said as `transcript` (text,
    or a .txt, .srt or .vtt file) or with a `transcriber`, a speech recognition model. The features are extracted as
    those that the checkpoint was trained on were. Media, and rows for which one of its options is given, are analysed:
    the answer has more entries, below.

    What comes out depends on the checkpoint's `target`:

    - sentiment: `{"label": "positive", "score": 1.83, "range": [-3.0, 3.0], "text": 1.5, "audio": 0.2, "vision":
      None}`. The label is "positive" for a score above 0, "negative" below, "neutral" for 0 itself. The score is not
      cut to the range, which is that of the labels.
    - one of several classes: `{"label": "positive", "score": 0.9, "scores": {"negative": 0.1, "positive": 0.9}, "text":
      {"label": ..., "score": ..., "scores": ...}, "audio": None, "vision": None}`; scores are probabilities.
    - any of several emotions: `{"labels": ["happy"], "scores": {"happy": 0.8, "sad": 0.1, ...}, "text": ..., ...}`; the
      labels are those whose probability is above `threshold`, the most probable first.
    - a regression with labels of one's own: `{"score": 0.4, "text": 0.3, ...}`, or `{"scores": {"name": 0.4, ...},
      "text": {"scores": ...}, ...}` where there are several numbers.

    `text`, `audio` and `vision` are the predictions from one modality alone, in the form of the prediction itself (a
    number where that is one), and None where the architecture has none or the sample lacks the modality.

    An analysis has these entries, too:

    - `seconds` (None without media), `transcript`: `{"text": ..., "timing": "words", "words": [{"text": "what",
      "start": 0.1, "end": 0.3, "contribution": 0.02}, ...]}`, or None;
    - `timeline`: `[{"start": 0.0, "end": 4.0, "score": 1.2, ...}, ...]`, a prediction for each window in which there
      is anything;
    - `contributions`: by modality, how much higher the score is with it than without it; of classes and emotions the
      probability of the one that is most probable with all. A word's contribution is the same for the word;
    - `faces`: `[{"time": 0.1, "box": [left, top, width, height]}, ...]`, in seconds and parts of the picture;
    - `masks`: of MMLatch, by modality, `{"times": [...], "values": [...]}`: the mean feedback mask of each step, and
      for text `tokens` in place of times; None otherwise;
    - `notes`: what a person should know, a sentence each.

    Args:
        model ([`PreTrainedModel`]): A model of this collection.
        processor (`MultimodalProcessor`): Its processor.
        threshold (`float`, *optional*, defaults to 0.5):
            Probability, from 0 to 1, above which an emotion is present. For several labels alone.
        kwargs: As of every pipeline: `device`, `batch_size`, `num_workers` (processes that prepare rows).

    Raises:
        ValueError: for a row without any modality or with an unknown column, for inputs that the processor refuses, and
            for predictions that are not finite.
    """

    model: Any
    processor: Any

    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_feature_extractor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.processor is None:
            raise ValueError("`processor` must be the checkpoint's; load it with `AutoProcessor.from_pretrained`.")
        self.model.eval()  # dropout is for training

    def __call__(self, inputs=None, *, batch_size=None, num_workers=None, threshold=None, **others):
        """
        Args:
            inputs (`str`, `dict`, or many of them):
                One row, a list, or anything that can be iterated: a `datasets.Dataset`, a generator.
            batch_size (`int`, *optional*, defaults to 1): Rows that the model reads at a time.
            num_workers (`int`, *optional*, defaults to 0): Processes that prepare rows.
            threshold (`float`, *optional*): As of the pipeline.
            drop, window, stride, words, noise, seed (*optional*): What an analysis asks; see [`AnalysisOptions`].
            transcript, transcriber, sampling_rate, start, stop, limits, progress (*optional*): Of media; see
                [`MultimodalProcessor.extract`].
            others: The columns of one row, or its media, in place of `inputs`.

        Returns:
            A dictionary for one row, a list of them for a list, and an iterator, which reads as it goes, for the rest:
            media in those are predicted, but not analysed.
        """
        refuse_unknown_columns(others, (*INPUTS, *MEDIA, *ANALYSIS))
        asked = {name: others.pop(name) for name in (*MEDIA[2:], *ANALYSIS) if name in others}
        if others:
            if inputs is not None:
                raise ValueError(f"Give a row or its columns, not both; {', '.join(others)} came beside a row.")
            inputs = others
        options: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
        if threshold is not None:
            options["threshold"] = threshold
        if isinstance(inputs, (str, os.PathLike, Mapping)):
            row = as_columns(inputs)
            if asked or is_media(row):
                return self._analyse(row, asked, {**options, "batch_size": batch_size or ANALYSIS_BATCH_SIZE})
            return super().__call__([_Row(None, row)], **options)[0]
        if isinstance(inputs, (list, tuple)) and (asked or any(is_media(row) for row in inputs)):
            return [self._one_of_many(_Row(i, row), {**asked, **options}) for i, row in enumerate(inputs)]
        if asked:
            raise ValueError(f"`{next(iter(asked))}` is asked of one row or a list; got {type(inputs).__name__}.")
        indexed = isinstance(inputs, Sized) and hasattr(inputs, "__getitem__")
        if not (indexed or isinstance(inputs, Iterable)) or isinstance(inputs, (bytes, np.ndarray, torch.Tensor)):
            raise ValueError(
                "`inputs` must be a text, a row (a dictionary with some of the columns "
                f"{', '.join(INPUTS)}), or many of those; got {type(inputs).__name__}."
            )
        rows = _IndexedRows(inputs) if indexed else _StreamedRows(inputs)
        predictions = super().__call__(rows, **options)
        return list(predictions) if isinstance(inputs, (list, tuple)) else predictions

    def save_pretrained(self, save_directory, **kwargs):
        """Saves what the pipeline is made of, the model and the processor, with the code that they came with."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, threshold: float | None = None, masks: bool = False):
        forward = {"masks": True} if masks else {}
        if threshold is None:
            return {}, forward, forward
        if self.model.config.problem_type != "multi_label_classification":
            raise ValueError(
                "`threshold` says which of several labels are present, but this checkpoint predicts "
                f"{self.model.config.target or self.model.config.problem_type}; leave it out."
            )
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` must be a probability, from 0 to 1; got {threshold!r}.")
        return {}, forward, {"threshold": threshold, **forward}

    def _one_of_many(self, row: _Row, options: dict[str, Any]) -> dict[str, Any]:
        try:
            return self(row.columns, **options)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{row}: {error}") from error

    def _analyse(self, row: Mapping, asked: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        wanted = AnalysisOptions(**{name: asked.pop(name) for name in ANALYSIS if name in asked})
        clip = None
        if is_media(row):
            clip, columns = read_media(self.processor, row, asked)
            row = columns
        elif asked:
            raise ValueError(f"`{next(iter(asked))}` goes with media; give `video` or `audio`, or leave it out.")
        else:
            row = {name: value[0] for name, value in self._filled_inputs(row).items()}
        add_noise = None
        if wanted.noise > 0:
            tokenizer = self.processor.tokenizer if self.processor.text_input == "tokens" else None
            noise = Noise(deviations(row, self.processor), wanted.seed, tokenizer)
            add_noise = partial(noisy, noise=noise, probability=wanted.noise, processor=self.processor)
        analysis = SampleAnalysis(row, wanted, clip, self.processor.clip_columns, add_noise)
        questions = analysis.questions()
        say = asked.get("progress") or (lambda stage: None)
        say("Predicting")
        rows = [_Row(None, question.row) for question in questions]
        whole = super().__call__(rows[:1], **{**options, "masks": True})
        rest = super().__call__(rows[1:], **options) if rows[1:] else []
        masks = whole[0].pop("masks")
        answer = analysis.answer(questions, [*whole, *rest])
        answer["seconds"] = None if clip is None else clip.seconds
        answer["faces"] = faces(clip)
        answer["masks"] = named_masks(self.processor, masks, questions[0].row, clip)
        answer["notes"] = [*([] if clip is None else clip.notes), *notes_on_text(self.processor, row)]
        return answer

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        # The base class pads with what a tokenizer says and wants the same inputs of every row; here rows lack
        # modalities, and a checkpoint need not have a tokenizer.
        prepared: PipelineDataset | PipelineIterator
        if isinstance(inputs, Sized):
            prepared = PipelineDataset(inputs, self.preprocess, preprocess_params)
        else:
            if num_workers > 1:
                logger.warning("Rows that come one after the other are read by one process: `num_workers` is 1.")
                num_workers = 1
            prepared = PipelineIterator(inputs, self.preprocess, preprocess_params)
        batches = DataLoader(prepared, num_workers=num_workers, batch_size=batch_size, collate_fn=_padded)
        outputs = PipelineIterator(batches, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)

    def preprocess(self, row: _Row) -> dict[str, torch.Tensor]:
        """The model's inputs for one row, each of shape (1, steps) or (1, steps, features)."""
        try:
            columns = as_columns(row.columns)
            if is_media(columns):
                columns = read_media(self.processor, columns, {})[1]
            return dict(self.processor(**self._filled_inputs(columns)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{row}: {error}") from error

    def _forward(self, inputs: dict[str, torch.Tensor], masks: bool = False) -> dict[str, torch.Tensor]:
        outputs = self.model(**inputs)
        found = {"logits": outputs.logits.float()}
        for modality, mask in MASKS.items():
            logits = outputs.get(f"{modality}_logits")
            if logits is not None and mask in inputs:
                found[modality] = logits.float()
                found[f"{modality}_present"] = inputs[mask].bool().any(dim=1)
            values = outputs.get(f"{modality}_mask_values")
            if masks and values is not None and mask in inputs and inputs[mask].any():
                found[f"{modality}_mask"] = values.float().mean(dim=-1)
        return found

    def postprocess(
        self, outputs: dict[str, torch.Tensor], threshold: float = 0.5, masks: bool = False
    ) -> dict[str, Any]:
        """
        The prediction for one row, whose logits have the shape (1, num_labels).

        Args:
            threshold: Above which an emotion is present.
            masks: Whether the mean masks of the steps, (1, steps) each, are an entry, too.
        """
        config = self.model.config
        prediction = self._prediction(outputs["logits"], threshold)
        if config.target == "sentiment":
            score = prediction["score"]
            label = "positive" if score > 0 else "negative" if score < 0 else "neutral"
            prediction = {"label": label, "score": score, "range": list(config.label_range)}
        for modality in MODALITIES:
            prediction[modality] = None
            if modality in outputs and outputs[f"{modality}_present"].item():
                own = self._prediction(outputs[modality], threshold)
                prediction[modality] = own["score"] if config.one_number else own
        if masks:
            found = {m: outputs[f"{m}_mask"][0].tolist() for m in MODALITIES if f"{m}_mask" in outputs}
            prediction["masks"] = found or None
        return prediction

    def _prediction(self, logits: torch.Tensor, threshold: float) -> dict[str, Any]:
        """What one head says of one row."""
        config = self.model.config
        values = logits[0].double()
        if not values.isfinite().all():
            raise ValueError(
                f"The model in {self.dtype} predicts {logits[0].tolist()}, which is not finite; load it with "
                "`dtype=torch.float32`."
            )
        if config.one_number:
            return {"score": values.item()}
        if config.problem_type == "single_label_classification":
            values = values.softmax(dim=-1)
        elif config.problem_type == "multi_label_classification":
            values = values.sigmoid()
        scores = dict(zip(config.output_names, values.tolist(), strict=True))
        if config.problem_type == "regression":
            return {"scores": scores}
        ranking = sorted(scores, key=lambda name: scores[name], reverse=True)
        if config.problem_type == "multi_label_classification":
            return {"labels": [name for name in ranking if scores[name] > threshold], "scores": scores}
        return {"label": ranking[0], "score": scores[ranking[0]], "scores": scores}

    def _filled_inputs(self, columns) -> dict[str, list]:
        """The processor's arguments for one sample: those of a row's columns that hold something."""
        refuse_unknown_columns(columns, INPUTS)
        given = {name: _without_torch(columns.get(name)) for name in INPUTS}
        _check_text(given["text"], given["input_ids"], given["token_type_ids"])
        for name in SEQUENCES:
            _check_sequence(name, given[name])
        filled = {name: value for name, value in given.items() if value is not None and len(value) > 0}
        if not filled.get("text", "").strip():
            filled.pop("text", None)
        if not filled.keys() & {"text", "input_ids", *SEQUENCES}:
            raise ValueError(f"The row has no modality; give at least one of {', '.join(self._input_columns())}.")
        for unread in self._other_forms_of_text(filled):
            filled.pop(unread, None)
        self._check_tokens(filled.get("input_ids"))
        return {name: [value] for name, value in filled.items()}

    def _input_columns(self) -> list[str]:
        names = [f"{modality}_values" for modality in self.model.config.modalities]
        return ["text", *names[1:]] if self.processor.text_input == "tokens" else names

    def _other_forms_of_text(self, filled) -> tuple[str, ...]:
        """Columns that hold the text once more, in a form that the checkpoint does not read."""
        if self.processor.text_input == "values" and "text_values" in filled:
            return ("text", "input_ids", "token_type_ids")
        if self.processor.text_input == "tokens" and "text" in filled:
            return ("input_ids", "token_type_ids", "text_values")
        if self.processor.text_input == "tokens" and "input_ids" in filled:
            return ("text_values",)
        return ()

    def _check_tokens(self, ids) -> None:
        size = getattr(self.model.config.text_config, "vocab_size", None)
        if ids is not None and size is not None and not all(0 <= int(token) < size for token in ids):
            raise ValueError(
                f"`input_ids` must be from 0 to {size - 1}, the text encoder's vocabulary; got {min(ids)} to "
                f"{max(ids)}. Use the checkpoint's own tokenizer, or give `text`."
            )


class _Row:
    """A row and, where there are several, its position."""

    def __init__(self, position: int | None, columns):
        self.position = position
        self.columns = columns

    def __str__(self) -> str:
        name = "The row" if self.position is None else f"Row {self.position}"
        identifier = self.columns.get("id") if isinstance(self.columns, Mapping) else None
        return name if identifier is None else f"{name} ({identifier})"


class _IndexedRows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> _Row:
        return _Row(position, self.rows[position])


class _StreamedRows(IterableDataset):
    def __init__(self, rows: Iterable):
        self.rows = rows

    def __iter__(self) -> Iterator[_Row]:
        return (_Row(position, row) for position, row in enumerate(self.rows))


def _padded(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One batch of rows' inputs, each filled up with zeros to its longest; masks, too, which say what is padding."""
    batch = {}
    for name in sorted({name for row in rows for name in row}):
        tensors = [row.get(name) for row in rows]
        like = next(tensor for tensor in tensors if tensor is not None)
        steps = max(tensor.shape[1] for tensor in tensors if tensor is not None)
        batch[name] = like.new_zeros(len(rows), steps, *like.shape[2:])
        for filled, tensor in zip(batch[name], tensors, strict=True):
            if tensor is not None:
                filled[: tensor.shape[1]] = tensor[0]
    return batch


def _without_torch(value):
    """Tensors as arrays, which the processor makes tensors of."""
    return value.detach().float().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _check_text(text, input_ids, token_type_ids) -> None:
    if text is not None and not isinstance(text, str):
        raise ValueError(f"`text` must be one string per row; got {type(text).__name__}. Give a list of rows for many.")
    for name, ids in {"input_ids": input_ids, "token_type_ids": token_type_ids}.items():
        if ids is not None and np.ndim(ids) != 1:
            raise ValueError(f"`{name}` must be the token ids of one text; got {np.ndim(ids)} dimensions.")


def _check_sequence(name: str, values) -> None:
    if is_feature_sequence(values):
        return
    if values is not None and np.ndim(values) != 2 and np.size(values) > 0:
        raise ValueError(f"`{name}` must be one array (steps, features) per row; got the shape {np.shape(values)}.")
    if values is not None and np.ndim(values) == 0:
        raise ValueError(f"`{name}` must be an array (steps, features), or None; got {values!r}.")

"""The outputs of a text encoder that is not trained: computed once, kept on disk, and read in every epoch."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Array2D, Dataset, Features, concatenate_datasets
from datasets.features.features import Array2DExtensionType
from transformers import TrainingArguments

from datasets_scripts.builder import file_sha256
from datasets_scripts.files import disk_is_full, whole_file, write_json
from training.corpus import PreparedRows
from training.digests import add_tensors
from training.mapped_rows import MappedRows
from training.processes import machines_first

logger = logging.getLogger(__name__)

STATES = "text_states"  # the column, which the collator gives to the model as `text_values`
PRECISIONS = ("float32", "float16")
FORMAT = 1  # of the files; those of another one are computed again
WINDOW_TOKENS = 16_384  # whose states are held in memory at once, padding included
BATCH_TOKENS = 2_048  # which the encoder reads at once, padding included


def with_text_states(
    splits: dict[str, PreparedRows], model, processor, args: TrainingArguments, precision: str = "float32"
) -> dict[str, PreparedRows]:
    """
    The training and the validation split with a column `text_states`: the text encoder's last hidden states (tokens,
    hidden_size) of every sample, without dropout, so that the encoder need not run any more. They lie memory-mapped in
    the cache of the library `datasets`, named by what they are computed from: other runs with the same encoder and
    texts find them. What is not there yet is computed, by one process of a machine while its others wait.

    Where a model's text encoder is trained, or reads the other modalities, too, the splits come back as they are.

    Args:
        splits: As `prepare_splits` makes them.
        model: The model of a stage, as `model_of_stage` gives it. Its device and mode are the same afterwards.
        processor: The checkpoint's `MultimodalProcessor`.
        args: Of the training: the encoder runs on its device, in its mixed precision.
        precision: "float32" or "float16", of what is kept.

    Raises:
        OSError: where the cache cannot be written.
        ValueError: for states that float16 cannot hold.
    """
    if not _has_constant_states(model):
        return splits
    encoder = _weights_digest(model.get_submodule("text_encoder"))
    found = dict(splits)
    with machines_first(args):
        for name in ("train", "valid"):
            rows = found[name]
            states = TextStates(rows.table, encoder, model, precision, args.mixed_precision)
            table = concatenate_datasets([rows.table, states.get(model, processor, args.device)], axis=1)
            found[name] = MappedRows(table) if isinstance(rows, MappedRows) else rows.with_table(table)
    return found


def _has_constant_states(model) -> bool:
    """Whether the model reads a text encoder that gives the same for a text throughout the training."""
    encoder = getattr(model, "text_encoder", None)
    if encoder is None or "text" not in model.read_modalities:
        return False
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        return False
    if any(hasattr(parameter, "ds_id") for parameter in encoder.parameters()):
        logger.info(
            "The text encoder is not trained, but DeepSpeed has spread its weights over the processes: it runs in "
            "every epoch."
        )
        return False
    if model.text_encoder_reads_others:
        logger.info(
            f"The text encoder is not trained, but that of {model.config.display_name} reads the other modalities, "
            "too: it runs in every epoch."
        )
        return False
    return True


class TextStates:
    """
    The states of one split: an Arrow file, and beside it, written last, a JSON file that says what it holds.

    Args:
        table: The split, with `input_ids`.
        encoder: The digest of the encoder's weights and configuration.
        model: Whose encoder it is.
        precision: Of the states.
        mixed_precision: Of the computation, as `TrainingArguments` names it.
    """

    def __init__(self, table: Dataset, encoder: str, model, precision: str, mixed_precision: str):
        columns = [name for name in ("input_ids", "token_type_ids") if name in table.column_names]
        self.tokens: pa.Table = table.select_columns(columns).with_format("arrow")[:]
        self.lengths = pc.list_value_length(self.tokens["input_ids"]).to_numpy().astype(np.int64)
        self.width = model.config.text_config.hidden_size
        self.precision, self.mixed_precision = precision, mixed_precision
        self.key = {
            **{"format": FORMAT, "text_encoder": encoder, "tokens": _tokens_digest(self.tokens)},
            **{"precision": precision, "mixed_precision": mixed_precision},
        }
        name = hashlib.sha256(json.dumps(self.key).encode()).hexdigest()[:32]
        folder = Path(datasets.config.HF_DATASETS_CACHE) / STATES
        self.file, self.about = folder / f"{name}.arrow", folder / f"{name}.json"

    def get(self, model, processor, device: torch.device) -> Dataset:
        """A table with the column `text_states`, read from the file, which is written where it is not there."""
        if self.about.exists():
            wrong = self._difference()
            if wrong is None:
                return self._open()
            logger.warning(f"{self.file} {wrong}; it is computed again.")
        started = time.perf_counter()
        try:
            self._write(model, processor, device)
        except OSError as error:
            room = f" {self._size / 1e6:.0f} MB are needed." if disk_is_full(error) else ""
            raise OSError(
                f"The text encoder's outputs cannot be kept in {self.file.parent}: {str(error).rstrip('.')}.{room} Set "
                "the environment variable HF_DATASETS_CACHE to another folder, or let the encoder run in every epoch "
                "with --encoded_text none."
            ) from error
        logger.info(
            f"The text encoder is not trained: its outputs for {len(self.lengths)} texts ({self._size / 1e6:.0f} MB) "
            f"were computed once, in {time.perf_counter() - started:.1f} seconds, and are kept as {self.file}."
        )
        return self._open()

    @property
    def _size(self) -> int:
        """Bytes of all states."""
        return int(self.lengths.sum()) * self.width * np.dtype(self.precision).itemsize

    def _difference(self) -> str | None:
        """What keeps the file from being used, or None."""
        try:
            about = json.loads(self.about.read_text(encoding="utf-8"))
            if not isinstance(about, dict) or {name: about.get(name) for name in self.key} != self.key:
                return "is of another encoder, other texts or another precision"
            if file_sha256(self.file) != about.get("sha256"):
                return "is not what was written (its SHA-256 differs)"
        except (OSError, ValueError) as error:
            return f"cannot be read ({error})"
        return None

    def _open(self) -> Dataset:
        return Dataset.from_file(str(self.file)).with_format("numpy")

    def _write(self, model, processor, device: torch.device) -> None:
        schema = Features({STATES: Array2D((None, self.width), self.precision)}).arrow_schema
        self.about.unlink(missing_ok=True)
        with whole_file(self.file) as temporary:
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                for states in self._windows(model, processor, device):
                    writer.write_batch(pa.record_batch([self._column(states)], schema=schema))
            digest = file_sha256(temporary)
        write_json(self.about, {**self.key, "sha256": digest})

    def _column(self, states: list[np.ndarray]) -> pa.Array:
        flat = np.concatenate(states)
        if not np.isfinite(flat).all():
            raise ValueError(
                f"The text encoder's outputs must be finite numbers, but not all are in {self.precision}; "
                + ("set --encoded_text float32." if self.precision == "float16" else "see its weights.")
            )
        steps = pa.ListArray.from_arrays(
            pa.array(np.arange(len(flat) + 1, dtype=np.int32) * self.width), pa.array(flat.ravel())
        )
        offsets = np.cumsum([0, *(len(one) for one in states)], dtype=np.int32)
        storage = pa.ListArray.from_arrays(pa.array(offsets), steps)
        return pa.ExtensionArray.from_storage(Array2DExtensionType((None, self.width), self.precision), storage)

    def _windows(self, model, processor, device: torch.device) -> Iterator[list[np.ndarray]]:
        """The states of a few rows after the other, in the order of the rows."""
        before, training = model.device, model.training
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.mixed_precision)
        model.to(device).eval()
        try:
            with torch.inference_mode(), torch.autocast(device.type, kind, enabled=kind is not None):
                for window in groups(self.lengths, WINDOW_TOKENS):
                    yield self._encoded(window, model, processor, device)
        finally:
            model.to(before).train(training)

    def _encoded(self, window: np.ndarray, model, processor, device: torch.device) -> list[np.ndarray]:
        """The states of the rows of a window: texts of one length together, so that little is padded."""
        lengths = self.lengths[window]
        tokens = self.tokens.slice(window[0], len(window)).to_pydict()
        states = [np.zeros((0, self.width), self.precision)] * len(window)
        filled = np.argsort(lengths, kind="stable")[(lengths == 0).sum() :]
        for batch in groups(lengths[filled], BATCH_TOKENS):
            rows = filled[batch]
            inputs = processor(**{name: [column[row] for row in rows] for name, column in tokens.items()})
            values = model.sequences(**inputs.to(device))["text"].values
            values = values.to("cpu", getattr(torch, self.precision)).numpy()
            for row, value in zip(rows, values, strict=True):
                states[row] = value[: lengths[row]]
        return states


def groups(lengths: Sequence[int] | np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Positions of sequences that follow each other, as many at a time as have `tokens` when they are padded."""
    start, longest = 0, 0
    for position, length in enumerate(lengths):
        longest = max(longest, int(length))
        if position > start and (position + 1 - start) * longest > tokens:
            yield np.arange(start, position)
            start, longest = position, int(length)
    if start < len(lengths):
        yield np.arange(start, len(lengths))


def _weights_digest(module) -> str:
    """SHA-256 of what a text encoder's outputs depend on: its class, its configuration and its tensors."""
    # What says how it is computed, not what.
    ignored = ("_attn_implementation", "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
    config = {name: value for name, value in module.config.to_dict().items() if name not in ignored}
    digest = hashlib.sha256(json.dumps([type(module).__name__, config], sort_keys=True, default=str).encode())
    add_tensors(digest, module)
    return digest.hexdigest()


def _tokens_digest(tokens: pa.Table) -> str:
    """SHA-256 of the token ids, and their segments, row by row."""
    digest = hashlib.sha256()
    for name, column in zip(tokens.column_names, tokens.columns, strict=True):
        digest.update(f"{name} {len(column)}\n".encode())
        digest.update(pc.list_value_length(column).to_numpy().astype("<i8"))
        digest.update(pc.list_flatten(column).to_numpy().astype("<i8"))
    return digest.hexdigest()

"""What is said of a batch for which there is not enough memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from datasets_scripts.programs import out_of_memory


class BatchMemoryError(MemoryError):
    """Memory ran out while a batch was computed; the message has its shape."""


@contextmanager
def memory_for(batch: Mapping[str, Any]) -> Iterator[None]:
    """Names the shapes of a batch in the error of memory that ran out. Raises BatchMemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, BatchMemoryError) or not out_of_memory(error):
            raise
        raise BatchMemoryError(
            f"{str(error).splitlines()[0] if str(error) else error!r} The batch: {shapes(batch)}."
        ) from error


def shapes(batch: Mapping[str, Any]) -> str:
    """Samples, and steps and features of each input: "32 samples; audio_values 500 x 74"."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    samples = max((value.shape[0] for value in tensors.values() if value.dim()), default=0)
    sizes = [
        f"{name} {' x '.join(map(str, value.shape[1:]))}"
        for name, value in tensors.items()
        if value.dim() > 1 and value.shape[0] == samples and not name.endswith("_mask")
    ]
    return "; ".join([f"{samples} samples", *sizes])

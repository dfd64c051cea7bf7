"""What names a module: a digest of its tensors."""

from __future__ import annotations

from typing import Any

import torch


def add_tensors(digest: Any, module: torch.nn.Module) -> None:
    """Puts a module's tensors, by name, with their types and shapes, into a digest of `hashlib`."""
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())

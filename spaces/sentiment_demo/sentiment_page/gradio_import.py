"""
Gradio, imported where a folder named `spaces` may be in the way.

Gradio looks for the package `spaces` of the Hub's machines, and would take the folder of that name in this repository
for it. It is not shown that one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _own_spaces_hidden() -> Iterator[None]:
    spec = importlib.util.find_spec("spaces")
    is_the_hubs = spec is not None and importlib.util.find_spec("spaces.zero") is not None
    if spec is None or is_the_hubs:
        yield
        return
    shown = sys.modules.pop("spaces", None)
    sys.modules["spaces"] = None  # type: ignore[assignment]  # so that an import of it fails
    try:
        yield
    finally:
        del sys.modules["spaces"]
        if shown is not None:
            sys.modules["spaces"] = shown


with _own_spaces_hidden():
    import gradio

__all__ = ["gradio"]

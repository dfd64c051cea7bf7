"""Libraries that only some uses of a checkpoint need: imported when they are, with a word on how to get them."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, purpose: str, package: str | None = None) -> Any:
    """
    Imports a library that the core does without.

    `transformers` refuses to load a checkpoint's code where a module that an import statement names is missing, even
    inside a function; this is how code that goes with checkpoints imports what not everybody has.

    Args:
        module (`str`): The module to import.
        purpose (`str`): What needs it, as the subject of a sentence.
        package (`str`, *optional*): What to install, where it has another name than the module.

    Returns:
        The module.

    Raises:
        ImportError: where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module}, which cannot be imported ({error}); install it with `pip install "
            f"{package or module}`."
        ) from error

"""How programs end: with an exit code, and with one message where something is wrong that their user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from huggingface_hub.errors import StrictDataclassError

from datasets_scripts.files import disk_is_full

# What the memory of a batch says when there is no more of it, in words: the errors of PyTorch have no type of their own
# on a CPU, and several on a GPU.
_MEMORY_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
    "Cannot allocate memory",
)


def run_program(main: Callable[[list[str]], Any], *, go_on: str = "", less_memory: str = "") -> NoReturn:
    """
    Calls `main` with the command line and ends the process: with its result, where that is an integer, as the exit
    code, and with 1 and one message where the source, the options, the disk or the memory is at fault. Any other error
    is one of the program and shown as it is.

    Args:
        go_on: How what was stopped goes on, a sentence.
        less_memory: What to lower where memory runs out, a sentence.
    """
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(f"Stopped. {go_on}".strip())
    except Exception as error:
        said = message(error, go_on, less_memory)
        if said is None:
            raise
        sys.exit(said)
    sys.exit(code if isinstance(code, int) else 0)


def message(error: Exception, go_on: str = "", less_memory: str = "") -> str | None:
    """What to say of an error; None where its traceback says more. See `run_program`."""
    shown = f"{type(error).__name__}: {error}"
    if out_of_memory(error):
        return f"Out of memory. {shown}\n{less_memory} {go_on}".strip()
    if disk_is_full(error):
        return f"{shown} {go_on}".strip()
    if isinstance(error, (ValueError, OSError, ImportError, StrictDataclassError)):
        return shown
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, that of the machine or of a GPU."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(words in str(error) for words in _MEMORY_WORDS)

"""Feature pickles of MMSA, Self-MM, SUGRM, CH-SIMS and MulT.

    >>> from datasets_scripts import conversion_report, load_dataset
    >>> rows = load_dataset("unaligned_50.pkl")  # doctest: +SKIP
    >>> rows["train"][0]["audio_values"]  # a float32 array of shape (steps, width)  # doctest: +SKIP
    >>> print(conversion_report("unaligned_50.pkl").summary())  # doctest: +SKIP

What becomes of the arrays is in `padded_arrays`.
"""

from __future__ import annotations

from typing import Any

import datasets

from datasets_scripts.arrays.padded_arrays import ArraysBuilder
from datasets_scripts.pickles.safe_pickle import load_pickle


class MMSAPickle(ArraysBuilder):
    """Converts one pickle.

    Reading one takes at most as much memory as the file, and from protocol 3 on that of the file itself, mapped.
    """

    VERSION = datasets.Version("1.2.0")
    SOURCE_FORMAT = "MMSA pickle"

    def read_arrays(self) -> Any:
        return load_pickle(self.config.path)

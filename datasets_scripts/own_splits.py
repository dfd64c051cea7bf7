"""The split of rows whose source names it its own way, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Set

from datasets_scripts.corpora import CORPORA, corpus_of, standard_folds
from datasets_scripts.schema import SPLIT_NAMES


def split_named(name: str) -> str | None:
    """The split that a name means, in any case, spaces around it apart; None where it means none."""
    return SPLIT_NAMES.get(name.strip().lower())


def folds_of(videos: Set[str], corpus: str | None, fix: str, warnings: list[str]) -> Mapping[str, str] | None:
    """The standard split of each video, for a source that does not say the splits of its rows.

    Args:
        videos: of the source.
        corpus: a key in `CORPORA`, "none", or None to tell it by the videos.
        fix: what a person may do about it, for the warning.
        warnings: takes one that says who decided.

    Returns:
        None where no folds are known; every row is then in `train`.
    """
    chosen = corpus_of(videos, corpus)
    folds = standard_folds(chosen) if chosen is not None else {}
    if chosen is None or videos.isdisjoint(folds):
        warnings.append(
            f"nothing says the split of the rows and no standard folds are known for these videos, so every row is in "
            f"`train`; {fix}"
        )
        return None
    warnings.append(
        f"nothing says the split of the rows, so the standard folds of {CORPORA[chosen].name} decided, by video; {fix}"
    )
    return folds


def warn_of_rows_without_fold(count: int, warnings: list[str]) -> None:
    """Say how many rows were left out because the standard folds do not have their videos."""
    if count:
        warnings.append(f"{count} rows of videos that are not in the standard folds were left out")

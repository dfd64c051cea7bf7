"""The corpora that are known by name: what their labels mean, how they are split, what their features are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datasets_scripts.report import ConversionReport


@dataclass(frozen=True)
class FeatureSet:
    """Published features of one modality.

    Attributes:
        name: of the extractor, for people.
        modality: "text", "audio" or "vision".
        size: features per step.
        columns: what each feature is, in order; empty where that was not published.
        steps: how often there is one, for people ("100 per second"); empty where that is not known.
        source: who published it, for people, with an address where there is one.
    """

    name: str
    modality: str
    size: int
    columns: tuple[str, ...] = ()
    steps: str = ""
    source: str = ""


@dataclass(frozen=True)
class CorpusInfo:
    """What is published about a corpus.

    Attributes:
        name: for people.
        description: who speaks, about what, in which language, one or two sentences.
        language: ISO 639-1 code.
        label_range: (low, high) of the sentiment.
        label_meaning: who rated it, and how the numbers come about, a sentence.
        splits: rows of the standard splits.
        feature_sets: those that feature files of the corpus have.
        homepage: where it is described.
        request: how to get it, for people.
        licence: its terms in a sentence or two; academic data is private unless these say otherwise.
        citation: BibTeX.
    """

    name: str
    description: str
    language: str
    label_range: tuple[float, float]
    label_meaning: str
    splits: dict[str, int]
    feature_sets: tuple[FeatureSet, ...]
    homepage: str
    request: str
    licence: str
    citation: str


CORPORA: dict[str, CorpusInfo] = {}


def identify(videos: Iterable[str]) -> str | None:
    """The key in `CORPORA` of the corpus that these video ids are from; None where they are of none, or of several."""
    return None


def standard_folds(corpus: str) -> dict[str, str]:
    """The split of each video of the corpus' standard folds; empty where it has none by video."""
    return {}


def feature_set(corpus: str | None, modality: str, size: int) -> FeatureSet | None:
    """The published features of that size; None where there are none, or several."""
    return None


def differences_from_standard(corpus: str, report: ConversionReport) -> list[str]:
    """How a converted source differs from the published corpus, a sentence each."""
    return []

"""The corpora that are known by name: what their labels mean, how they are split, what their features are.

The standard folds of CMU-MOSI and CMU-MOSEI are the video ids in `folds/`, as CMU-MultimodalSDK publishes them. Its
first versions had one video more in the training fold of CMU-MOSEI (`-NFrJFQijFE`), which the present ones lack.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from datasets_scripts.feature_sets import (
    BERT_CHINESE,
    BERT_ENGLISH,
    COVAREP,
    COVAREP_SELECTED,
    EGEMAPS,
    FACET_41,
    FACET_41_SELECTED,
    FACET_42,
    GLOVE,
    LIBROSA,
    OPENFACE,
    OPENFACE_FRAMES,
    OPENFACE_SELECTED,
    FeatureSet,
)
from datasets_scripts.report import ConversionReport
from datasets_scripts.schema import MODALITIES


@dataclass(frozen=True)
class CorpusInfo:
    """What is published about a corpus.

    Attributes:
        name: for people.
        description: who speaks, about what, in which language, one or two sentences.
        people: what is published about those who speak and those who rated, and what is not, one to three sentences.
        language: ISO 639-1 code.
        label_range: (low, high) of the sentiment.
        label_meaning: who rated it, and how the numbers come about, a sentence.
        splits: rows of the standard splits.
        feature_sets: those that feature files of the corpus have.
        homepage: where it is described.
        request: how to get it, for people.
        licence: its terms in a sentence or two; academic data is private unless these say otherwise.
        citation: BibTeX.
        folds: name of the file of its standard folds, a list of videos per split; empty where it has none by video.
    """

    name: str
    description: str
    people: str
    language: str
    label_range: tuple[float, float]
    label_meaning: str
    splits: dict[str, int]
    feature_sets: tuple[FeatureSet, ...]
    homepage: str
    request: str
    licence: str
    citation: str
    folds: str = ""


_CMU_REQUEST = (
    "Features and labels come with CMU-MultimodalSDK (https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK) or as "
    "the feature files that MMSA links to (https://github.com/thuiar/MMSA). The authors do not give out the videos."
)
_CMU_LICENCE = (
    "Given out for academic research; no licence of the data is published. The MIT licence of CMU-MultimodalSDK is "
    "that of its code, and the videos belong to their makers on YouTube, for whose privacy only features are given "
    "out. Keep rows private, and ask the authors (MultiComp Lab, Carnegie Mellon University) before you pass them on."
)
_SIMS_LICENCE = (
    "Given out for academic research; no licence of the data is published, and the clips are from films, series and "
    "shows that belong to others. Keep rows private, and ask the authors (THUIAR, Tsinghua University) before you pass "
    "them on."
)
_SIMS_CLASSES = (
    "-1 and -0.8 are negative, -0.6 to -0.2 weakly negative, 0 neutral, 0.2 to 0.6 weakly positive, 0.8 and 1 positive"
)

CORPORA: dict[str, CorpusInfo] = {
    "mosi": CorpusInfo(
        name="CMU-MOSI",
        description=(
            "2,199 utterances of 93 English film reviews on YouTube, each by one speaker, 89 speakers in all, who "
            "faces the camera."
        ),
        people=(
            "41 women and 48 men chose to publish a review in English on YouTube. The raters were workers of Amazon "
            "Mechanical Turk. How old the speakers are, where they are from and who the raters are does not come with "
            "the data."
        ),
        language="en",
        label_range=(-3, 3),
        label_meaning=(
            "The mean of the ratings of five annotators, from -3 (strongly negative) over 0 (neutral) to 3 (strongly "
            "positive)."
        ),
        splits={"train": 1284, "valid": 229, "test": 686},
        feature_sets=(BERT_ENGLISH, GLOVE, COVAREP, COVAREP_SELECTED, FACET_41, FACET_41_SELECTED, FACET_42),
        homepage="http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/",
        request=_CMU_REQUEST,
        licence=_CMU_LICENCE,
        citation="""@article{zadeh2016multimodal,
  title = {Multimodal Sentiment Intensity Analysis in Videos: Facial Gestures and Verbal Messages},
  author = {Zadeh, Amir and Zellers, Rowan and Pincus, Eli and Morency, Louis-Philippe},
  journal = {IEEE Intelligent Systems},
  volume = {31},
  number = {6},
  pages = {82--88},
  year = {2016},
  doi = {10.1109/MIS.2016.94}
}""",
        folds="cmu_mosi.json",
    ),
    "mosei": CorpusInfo(
        name="CMU-MOSEI",
        description=(
            "About 23,000 sentences of more than 3,000 English monologues on YouTube, by more than 1,000 speakers on "
            "250 topics, with sentiment and six emotions."
        ),
        people=(
            "57% of the speakers are men and 43% women, as published; one person speaks in each video. The raters were "
            "workers of Amazon Mechanical Turk. Who speaks in which video, how old the speakers are, where they are "
            "from and who the raters are does not come with the data, so the same person may be in several splits."
        ),
        language="en",
        label_range=(-3, 3),
        label_meaning=(
            "The mean of the ratings of three annotators, from -3 (highly negative) over 0 (neutral) to 3 (highly "
            "positive); emotions likewise from 0 (absent) to 3."
        ),
        splits={"train": 16326, "valid": 1871, "test": 4659},
        feature_sets=(BERT_ENGLISH, GLOVE, COVAREP, FACET_42, OPENFACE_FRAMES),
        homepage="http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/",
        request=_CMU_REQUEST,
        licence=_CMU_LICENCE,
        citation="""@inproceedings{zadeh2018mosei,
  title = {Multimodal Language Analysis in the Wild: {CMU-MOSEI} Dataset and Interpretable Dynamic Fusion Graph},
  author = {Bagher Zadeh, AmirAli and Liang, Paul Pu and Poria, Soujanya and Cambria, Erik and
            Morency, Louis-Philippe},
  booktitle = {Proceedings of the 56th Annual Meeting of the Association for Computational Linguistics},
  pages = {2236--2246},
  year = {2018},
  doi = {10.18653/v1/P18-1208}
}""",
        folds="cmu_mosei.json",
    ),
    "sims": CorpusInfo(
        name="CH-SIMS",
        description="2,281 clips of 60 Chinese videos (films, series, shows), each rated as a whole and by modality.",
        people=(
            "474 people speak, and those in films and series act. Every video with clips in the test split also has "
            "clips in the training split, so the people tested are people trained on. Their genders and ages and who "
            "the raters are do not come with the data."
        ),
        language="zh",
        label_range=(-1, 1),
        label_meaning=f"The mean of the ratings -1, 0 or 1 of five annotators, in steps of 0.2: {_SIMS_CLASSES}.",
        splits={"train": 1368, "valid": 456, "test": 457},
        feature_sets=(BERT_CHINESE, LIBROSA, OPENFACE),
        homepage="https://github.com/thuiar/MMSA",
        request="Videos, labels and feature files are linked from https://github.com/thuiar/MMSA.",
        licence=_SIMS_LICENCE,
        citation="""@inproceedings{yu2020ch,
  title = {{CH-SIMS}: A Chinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality},
  author = {Yu, Wenmeng and Xu, Hua and Meng, Fanyang and Zhu, Yilin and Ma, Yixiao and Wu, Jiele and Zou, Jiyun and
            Yang, Kaicheng},
  booktitle = {Proceedings of the 58th Annual Meeting of the Association for Computational Linguistics},
  pages = {3718--3727},
  year = {2020},
  doi = {10.18653/v1/2020.acl-main.343}
}""",
    ),
    "simsv2": CorpusInfo(
        name="CH-SIMS v2.0",
        description=(
            "The 4,403 rated clips of CH-SIMS v2.0, Chinese, rated as a whole and by modality: those of CH-SIMS and "
            "2,122 more. Its 10,161 clips without ratings are not among them."
        ),
        people=(
            "Those who speak in films and series act. 842 of the 1,034 test clips are from videos with clips in the "
            "training split, so many of the people tested are people trained on. Who speaks, their genders and ages "
            "and who the raters are do not come with the data."
        ),
        language="zh",
        label_range=(-1, 1),
        label_meaning=f"The mean of the ratings of several annotators, in steps of 0.2: {_SIMS_CLASSES}.",
        splits={"train": 2722, "valid": 647, "test": 1034},
        feature_sets=(BERT_CHINESE, LIBROSA, EGEMAPS, OPENFACE, OPENFACE_SELECTED),
        homepage="https://github.com/thuiar/ch-sims-v2",
        request="Videos, labels and feature files are linked from https://github.com/thuiar/ch-sims-v2.",
        licence=_SIMS_LICENCE,
        citation="""@inproceedings{liu2022make,
  title = {Make Acoustic and Visual Cues Matter: {CH-SIMS} v2.0 Dataset and {AV-Mixup} Consistent Module},
  author = {Liu, Yihe and Yuan, Ziqi and Mao, Huisheng and Liang, Zhiyun and Yang, Wanqiuyue and Qiu, Yuanzhe and
            Cheng, Tie and Li, Xiaoteng and Xu, Hua and Gao, Kai},
  booktitle = {Proceedings of the 2022 International Conference on Multimodal Interaction},
  year = {2022},
  doi = {10.1145/3536221.3556630}
}""",
    ),
}

# The videos of CH-SIMS are video_0001 to video_0060. CH-SIMS v2.0 has these and others; `test1` to `test15` are names
# that any data may have, so they tell nothing alone.
_SIMS_VIDEO = re.compile(r"video_00(0[1-9]|[1-5]\d|60)")
_SIMS_V2_VIDEO = re.compile(r"aqgy[3-5]_\d{4}(_\d{5})?|csbgs2_\d{4}|video_xjzw")
_SIMS_V2_TEST_VIDEO = re.compile(r"test([1-9]|1[0-5])")


def corpus_of(videos: Iterable[str], chosen: str | None) -> str | None:
    """The key in `CORPORA` that the option `corpus` means: none for "none", and the videos tell where it is None."""
    if chosen is None:
        return identify(videos)
    return None if chosen == "none" else chosen


def identify(videos: Iterable[str]) -> str | None:
    """The key in `CORPORA` of the corpus that these video ids are from; None where they are of none, or of several.

    At least half of them must be videos of that corpus. Those of CH-SIMS are also in CH-SIMS v2.0: it is the second
    where one of them is only there. All are told by name alone, so data that is named like CH-SIMS is taken for it.
    """
    given = set(videos)
    if not given:
        return None
    known = [
        key for key, info in CORPORA.items() if info.folds and 2 * len(given & _folds(info.folds).keys()) >= len(given)
    ]
    first = sum(_SIMS_VIDEO.fullmatch(video) is not None for video in given)
    second = sum(_SIMS_V2_VIDEO.fullmatch(video) is not None for video in given)
    test = sum(_SIMS_V2_TEST_VIDEO.fullmatch(video) is not None for video in given)
    if (first or second) and 2 * (first + second + test) >= len(given):
        known.append("simsv2" if second or test else "sims")
    return known[0] if len(known) == 1 else None


def standard_folds(corpus: str) -> dict[str, str]:
    """The split of each video of the corpus' standard folds; empty where it has none by video.

    CH-SIMS is split by clip: its videos are in several splits.

    Raises:
        ValueError: `corpus` is not in `CORPORA`.
    """
    info = _info(corpus)
    return dict(_folds(info.folds)) if info.folds else {}


def feature_set(corpus: str | None, modality: str, size: int) -> FeatureSet | None:
    """The published features of that size; None where there are none, or several.

    A size is no proof: other features can have the same.

    Args:
        corpus: a key in `CORPORA`; None looks in all of them.
        modality: "text", "audio" or "vision".
        size: features per step.

    Raises:
        ValueError: `corpus` is not in `CORPORA`.
    """
    infos = CORPORA.values() if corpus is None else [_info(corpus)]
    found = {one for info in infos for one in info.feature_sets if (one.modality, one.size) == (modality, size)}
    return found.pop() if len(found) == 1 else None


def differences_from_standard(corpus: str, report: ConversionReport) -> list[str]:
    """How a converted source differs from the published corpus, a sentence each.

    Args:
        corpus: a key in `CORPORA`.
        report: of the conversion; its rows, labels and feature sizes are compared.

    Raises:
        ValueError: `corpus` is not in `CORPORA`.
    """
    info = _info(corpus)
    return [*_split_differences(info, report), *_label_differences(info, report), *_size_differences(info, report)]


def _info(corpus: str) -> CorpusInfo:
    if corpus not in CORPORA:
        raise ValueError(f"`corpus` must be one of {tuple(CORPORA)}, but {corpus!r} came; correct the name.")
    return CORPORA[corpus]


@cache
def _folds(file: str) -> dict[str, str]:
    """The split of each video in a file of `folds/`; shared by all callers, who must not change it."""
    text = resources.files("datasets_scripts").joinpath("folds", file).read_text(encoding="utf-8")
    return {video: split for split, videos in json.loads(text).items() for video in videos}


def _split_differences(info: CorpusInfo, report: ConversionReport) -> list[str]:
    """A sentence on the splits with other numbers of rows, and one on why, where that is known."""
    found = [
        f"{split} {report.rows[split]} instead of {rows}" if split in report.rows else f"no {split} instead of {rows}"
        for split, rows in info.splits.items()
        if report.rows.get(split) != rows
    ]
    if not found:
        return []
    sentences = [f"the rows differ from the standard splits of {info.name}: {', '.join(found)}"]
    if info.folds and "computational sequences" in report.source_format:
        sentences.append(
            f"{info.name} built from computational sequences keeps slightly other segments than the feature files that "
            "papers use: compare results with care"
        )
    return sentences


def _label_differences(info: CorpusInfo, report: ConversionReport) -> list[str]:
    """A sentence on labels outside the range of the corpus."""
    low, high = info.label_range
    outside: dict[str, int] = {}
    values = []
    for split, labels in report.labels.items():
        for label, rows in labels.items():
            if not low <= float(label) <= high:
                outside[split] = outside.get(split, 0) + rows
                values.append(float(label))
    if not outside:
        return []
    counts = ", ".join(f"{split} {rows}" for split, rows in outside.items())
    numbers = sorted(value for value in values if not math.isnan(value))
    shown = f", from {numbers[0]:g} to {numbers[-1]:g}" if numbers else ""
    return [f"labels outside [{low:g}, {high:g}], the range of {info.name}{shown}: {counts} rows"]


def _size_differences(info: CorpusInfo, report: ConversionReport) -> list[str]:
    """A sentence per modality whose width none of the corpus' feature sets has."""
    sentences = []
    for modality in MODALITIES:
        size = report.feature_sizes.get(modality)
        known = sorted({one.size for one in info.feature_sets if one.modality == modality})
        if size is not None and size not in known:
            sizes = ", ".join(str(one) for one in known)
            sentences.append(
                f"`{modality}_values` has {size} features per step, a size that no feature set known of {info.name} "
                f"has ({sizes}): its features are not those of the published files"
            )
    return sentences

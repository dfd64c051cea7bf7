"""The numbers by which multimodal sentiment models are compared, as one `evaluate` metric.

Papers on CMU-MOSI, CMU-MOSEI and CH-SIMS train a regression (sentiment from -3 to 3, or from -1 to 1) and then report
both regression errors and accuracies over several binnings of the same numbers. The binnings differ in small ways that
change scores, so each is written out here once, and the metric card beside this file says which paper uses which.
CMU-MOSEI also rates six emotions per clip; `emotion_metrics` scores those.

The file stands alone: it needs numpy, datasets and evaluate, because `evaluate.load` copies it without its folder.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

REGRESSION_CONVENTIONS: tuple[str, ...] = ("mosi", "sims")
"""What `regression_metrics` takes as `convention`."""

EMOTIONS: tuple[str, ...] = ("happy", "sad", "anger", "surprise", "disgust", "fear")
"""The emotions of CMU-MOSEI in the order of its labels, which is the order of the columns here."""

_EMOTION_AVERAGES = ("acc6", "acc_avg", "wa_avg", "f1_avg")
_PER_EMOTION = tuple(f"{score}_{emotion}" for emotion in EMOTIONS for score in ("acc", "wa", "f1"))

METRIC_NAMES: dict[str, tuple[str, ...]] = {
    "mosi": ("mae", "corr", "acc7", "acc5", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0"),
    "sims": ("mae", "corr", "acc2", "acc3", "acc5", "f1"),
    "emotions": (*_EMOTION_AVERAGES, *_PER_EMOTION),
    "emotion": (*_EMOTION_AVERAGES, "f1_weighted", *_PER_EMOTION),
}
"""Task -> the names of what it reports, in the order it reports them.

"mosi" and "sims" are the conventions of `regression_metrics`. The other two are what `emotion_metrics` reports:
"emotions" when a sample may have any number of them, "emotion" when it has one (`single_label=True`).
"""

LOWER_IS_BETTER: frozenset[str] = frozenset({"mae"})
"""The metrics that are errors; every other one grows with quality."""

F1_WEIGHTS: tuple[str, ...] = ("references", "predictions")
"""Whose class frequencies weight the two per-class F1 scores."""

# Upper ends of the CH-SIMS classes, each of which includes its upper end. 0 is therefore negative.
_SIMS_CUTS: dict[str, tuple[float, ...]] = {
    "acc2": (0.0,),
    "acc3": (-0.1, 0.1),
    "acc5": (-0.7, -0.1, 0.1, 0.7),
}

# Configuration of the `evaluate` module -> the options of `compute` that belong to it alone.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "default": ("convention", "f1_weights"),
    "emotions": ("single_label", "threshold"),
}

_DESCRIPTION = """\
Scores sentiment intensities the way papers on CMU-MOSI, CMU-MOSEI and CH-SIMS do: mean absolute error, Pearson
correlation, and accuracies and F1 over classes cut from the same numbers. The configuration "emotions" scores the six
emotions of CMU-MOSEI: accuracy, weighted accuracy and F1. All accuracies and F1 scores are fractions.
"""

_SENTIMENT_INPUTS = """
Args:
    predictions (`list` of `float`): predicted sentiment, one number per sample.
    references (`list` of `float`): true sentiment, in the same order.
    convention (`str`): "mosi" (default; CMU-MOSI and CMU-MOSEI, -3 to 3) or "sims" (CH-SIMS, -1 to 1).
    f1_weights (`str`): "references" (default) weights the F1 of a class by how often it is true, "predictions" by
        how often it is predicted.
    ids (`list`, optional): names of all samples, in the order in which they were added; used in error messages.
Returns:
    `dict` of `float`. "mosi": mae, corr, acc7, acc5, acc2_has0, f1_has0, acc2_non0, f1_non0.
    "sims": mae, corr, acc2, acc3, acc5, f1.
Examples:
    >>> metric = evaluate.load("./spaces/multimodal_sentiment")
    >>> metric.compute(predictions=[1.4, -0.6, 2.0], references=[1.0, -1.0, 2.6])["acc7"]
    0.6666666666666666
"""

_EMOTION_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): six scores per sample, such as probabilities, in the order
        happy, sad, anger, surprise, disgust, fear.
    references (`list` of `list` of `float`): six true intensities per sample in the same order; 0 means absent.
    single_label (`bool`): False (default) decides about each emotion on its own, True chooses one per sample.
    threshold (`float`): an emotion is predicted where its score is above this; default 0.5. Not used with single_label.
    ids (`list`, optional): names of all samples, in the order in which they were added; used in error messages.
Returns:
    `dict` of `float`: acc6, acc_avg, wa_avg, f1_avg, with single_label also f1_weighted, and then acc_, wa_ and f1_ of
    each emotion.
Examples:
    >>> metric = evaluate.load("./spaces/multimodal_sentiment", "emotions")
    >>> metric.compute(predictions=[[0.9, 0.1, 0.2, 0.4, 0.1, 0.1]], references=[[2, 0, 0, 0.5, 0, 0]])["acc_avg"]
    0.8333333333333334
"""

_CITATION = """\
@article{zadeh2016mosi,
  title   = {{MOSI}: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis in Online Opinion Videos},
  author  = {Zadeh, Amir and Zellers, Rowan and Pincus, Eli and Morency, Louis-Philippe},
  journal = {arXiv preprint arXiv:1606.06259},
  year    = {2016}
}
@inproceedings{tong2017trafficking,
  title     = {Combating Human Trafficking with Multimodal Deep Models},
  author    = {Tong, Edmund and Zadeh, Amir and Jones, Cara and Morency, Louis-Philippe},
  booktitle = {Proceedings of ACL},
  year      = {2017}
}
@inproceedings{zadeh2018mosei,
  title     = {Multimodal Language Analysis in the Wild: {CMU-MOSEI} Dataset and Interpretable Dynamic Fusion Graph},
  author    = {Zadeh, Amir and Liang, Paul Pu and Poria, Soujanya and Cambria, Erik and Morency, Louis-Philippe},
  booktitle = {Proceedings of ACL},
  year      = {2018}
}
@inproceedings{tsai2019mult,
  title     = {Multimodal Transformer for Unaligned Multimodal Language Sequences},
  author    = {Tsai, Yao-Hung Hubert and Bai, Shaojie and Liang, Paul Pu and Kolter, J. Zico and
               Morency, Louis-Philippe and Salakhutdinov, Ruslan},
  booktitle = {Proceedings of ACL},
  year      = {2019}
}
@inproceedings{yu2020chsims,
  title     = {{CH-SIMS}: A {Chinese} Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality},
  author    = {Yu, Wenmeng and Xu, Hua and Meng, Fanyang and Zhu, Yilin and Ma, Yixiao and Wu, Jiele and
               Zou, Jiyun and Yang, Kaicheng},
  booktitle = {Proceedings of ACL},
  year      = {2020}
}
"""


def regression_metrics(
    predictions: Any,
    references: Any,
    *,
    ids: Sequence[Any] | None = None,
    convention: str = "mosi",
    f1_weights: str = "references",
) -> dict[str, float]:
    """All numbers that a corpus' papers report, from predicted and true sentiment intensities.

    With p the predictions, y the references and N their number:

    `convention="mosi"` (CMU-MOSI, CMU-MOSEI; y in [-3, 3])

    - `mae` = sum |p - y| / N, without clipping.
    - `corr` = Pearson's r of p and y, without clipping.
    - `acc7`, `acc5`: p and y clipped to [-3, 3] or [-2, 2], rounded to integers (half to even), share of equal ones.
    - `acc2_has0`, `f1_has0`: negative or not; the classes are p >= 0 and y >= 0.
    - `acc2_non0`, `f1_non0`: negative or positive; samples with y = 0 are left out, the classes are p > 0 and y > 0.

    `convention="sims"` (CH-SIMS; y in [-1, 1]); p and y are clipped to [-1, 1] before everything

    - `mae`, `corr`: as above, on the clipped values.
    - `acc2`: (.., 0], (0, ..]. Zero is negative, unlike in `acc2_has0`.
    - `acc3`: (.., -0.1], (-0.1, 0.1], (0.1, ..].
    - `acc5`: (.., -0.7], (-0.7, -0.1], (-0.1, 0.1], (0.1, 0.7], (0.7, ..].
    - `f1`: over the classes of `acc2`.

    The cuts of "sims" are compared in float32, so that a label stored as float32 (0.1 is 0.100000001 then) and the
    same label in float64 fall into the same class.

    F1 is the mean over both classes of 2 TP / (2 TP + FP + FN), weighted by `f1_weights`.

    Args:
        predictions: numbers of shape (samples,) or (samples, 1).
        references: numbers of shape (samples,) or (samples, 1).
        ids: one name per sample, used only to say which sample is at fault.
        convention: "mosi" or "sims".
        f1_weights: "references" weights a class by its true frequency (Self-MM, SUGRM, MMSA, MAG-BERT),
            "predictions" by its predicted frequency (MulT, MISA, SPT and MMLatch call F1 with swapped arguments).

    Returns:
        Name -> value in the order of `METRIC_NAMES[convention]`. Accuracies and F1 are fractions, not percentages.
        A number that the data leave undefined is nan, silently: `corr` when there is one sample or either side is
        constant (a variance is 0), `acc2_non0` and `f1_non0` when every reference is 0.

    Raises:
        ValueError: no samples, unequal lengths, another shape, something that is not a real number, nan or infinity
            (the message names the sample), or an unknown `convention` or `f1_weights`.

    Source: MulT (Tsai et al., ACL 2019) and Self-MM (Yu et al., AAAI 2021) for "mosi", CH-SIMS (Yu et al., ACL 2020)
    and its toolkit MMSA for "sims". The papers name these scores without defining their edges; the edges are those of
    the authors' public evaluation programs. The one on which the programs disagree is `f1_weights`.

    Example:
        >>> scores = regression_metrics([-1.6, 0.2, 2.5, -0.1], [-2.0, 0.0, 3.0, 1.0])
        >>> {name: round(value, 3) for name, value in scores.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'mae': 0.55, 'corr': 0.955, 'acc7': 0.5, 'acc5': 0.75,
         'acc2_has0': 0.75, 'f1_has0': 0.767, 'acc2_non0': 0.667, 'f1_non0': 0.667}
        >>> regression_metrics([0.4, -0.2], [0.8, 0.0], convention="sims")["acc2"]
        1.0
    """
    _check_choice("convention", convention, REGRESSION_CONVENTIONS)
    _check_choice("f1_weights", f1_weights, F1_WEIGHTS)
    p, y = _checked_pair(predictions, references, ids)
    return _sims_metrics(p, y, f1_weights) if convention == "sims" else _mosi_metrics(p, y, f1_weights)


def sdk_seven_class_accuracy(predictions: Any, references: Any, *, ids: Sequence[Any] | None = None) -> float:
    """Seven-class accuracy over the bins of the CMU-MultimodalSDK, which are not those of `acc7`.

    A value a goes to class sign(a) * min(ceil(|a|), 3): only an exact 0 is neutral, and 0.33 is already class 1, where
    `acc7` rounds it to 0. TBJE, and the MOSEI numbers of Delta-Attention and UCRN that are compared with it, use these
    bins. No key of `regression_metrics` does.

    Args and errors are those of `regression_metrics`.

    Source: the seven-class evaluation of CMU-MultimodalSDK (Zadeh et al.).

    Example:
        >>> predictions, references = [0.2, -1.0, 2.4], [0.33, -0.1, 2.6]
        >>> sdk_seven_class_accuracy(predictions, references)
        1.0
        >>> regression_metrics(predictions, references)["acc7"]
        0.3333333333333333
    """
    p, y = _checked_pair(predictions, references, ids)
    return _agreement(*(np.sign(values) * np.minimum(np.ceil(np.abs(values)), 3) for values in (p, y)))


def emotion_metrics(
    predictions: Any,
    references: Any,
    *,
    ids: Sequence[Any] | None = None,
    single_label: bool = False,
    threshold: float = 0.5,
) -> dict[str, float]:
    """All numbers that papers report about the six emotions of CMU-MOSEI, from scores and true intensities.

    A column is an emotion, in the order of `EMOTIONS`. With p the predictions and y the references:

    `single_label=False`: each emotion is a task of its own, and a sample may have none or several.

    - Predicted present is p > `threshold`, present is y > 0. A score on the threshold is absent. 0.5 is for
      probabilities; for logits give 0.

    `single_label=True`: one emotion per sample, as from a softmax over the six.

    - Samples without any emotion have no label and are left out of everything.
    - Predicted present is the emotion with the highest p, the first one on ties. Present are the emotions with the
      highest y, which may be several. `threshold` is not used.
    - `f1_weighted`: the mean of six classes' F1, weighted by their frequency in the references. It needs one true class
      per sample: the predicted emotion where that is among those with the highest y, else the first of them.

    In both, with TP and TN the counts of rightly predicted presence and absence, P and N those of true ones:

    - `acc_<emotion>` = (TP + TN) / (P + N), plain accuracy.
    - `wa_<emotion>` = (TP N / P + TN) / (2 N), weighted accuracy: the mean of recall TP / P and specificity TN / N.
    - `f1_<emotion>`: the mean of both classes' 2 TP / (2 TP + FP + FN), weighted by their frequency in the references.
    - `acc_avg`, `wa_avg`, `f1_avg`: means over the emotions; `wa_avg` over those whose weighted accuracy is defined.
    - `acc6`: over samples with an emotion, how often the emotion with the highest p (the first one on ties) is among
      those with the highest y.

    Args:
        predictions: scores of shape (samples, 6): probabilities, or logits with `threshold=0`.
        references: intensities of shape (samples, 6), 0 for absent; CMU-MOSEI's go up to 3, and 0 and 1 will do.
        ids: one name per sample, used only to say which sample is at fault.
        single_label: whether a sample has one emotion or any number of them.
        threshold: the score above which an emotion is predicted.

    Returns:
        Name -> value in the order of `METRIC_NAMES["emotion" if single_label else "emotions"]`, fractions all of them.
        A number that the data leave undefined is nan, silently: `wa_<emotion>` when the emotion is present everywhere
        or nowhere, `wa_avg` when it is so for all six, `acc6` when no sample has an emotion. In that last case all
        numbers are nan with `single_label=True`.

    Raises:
        ValueError: no samples, unequal lengths, another shape, something that is not a real number, nan or infinity, a
            negative intensity (the message names sample and emotion), or an unfit `single_label` or `threshold`.

    Source: weighted accuracy is that of Tong et al. (ACL 2017), as CMU-MOSEI (Zadeh et al., ACL 2018) uses it. UCRN
    (Guo et al., EMNLP 2021) reports it on CMU-MOSEI, and plain accuracy where it compares itself with TBJE.
    Delta-Attention (Panchal) reports six-class accuracy and F1 without saying how intensities become one class; the
    rules of `single_label=True` are this file's.

    Example:
        >>> predictions = [[0.9, 0.1, 0.2, 0.6, 0, 0], [0.3, 0.7, 0.4, 0.1, 0, 0], [0.6, 0.2, 0.1, 0.1, 0, 0.3]]
        >>> references = [[2, 0, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
        >>> scores = emotion_metrics(predictions, references)
        >>> names = ("acc6", "acc_avg", "wa_avg", "f1_avg", "acc_happy", "wa_happy", "f1_happy", "wa_fear")
        >>> {name: round(scores[name], 3) for name in names}  # doctest: +NORMALIZE_WHITESPACE
        {'acc6': 0.5, 'acc_avg': 0.833, 'wa_avg': 0.75, 'f1_avg': 0.833,
         'acc_happy': 0.667, 'wa_happy': 0.75, 'f1_happy': 0.667, 'wa_fear': nan}
        >>> scores = emotion_metrics(predictions, references, single_label=True)
        >>> scores["acc6"], scores["f1_weighted"]
        (0.5, 0.5)
    """
    _check_choice("single_label", single_label, (False, True))
    _check_threshold(threshold)
    ids = None if ids is None else list(ids)
    p, y = _checked_pair(predictions, references, ids, _as_emotion_rows)
    _check_not_negative("references", y, ids)

    labelled = (y > 0).any(axis=1)
    highest = p.argmax(axis=1)
    chosen = highest[:, np.newaxis] == np.arange(len(EMOTIONS))
    strongest = y == y.max(axis=1, keepdims=True)
    hit = (chosen & strongest).any(axis=1)

    predicted, present = (chosen[labelled], strongest[labelled]) if single_label else (p > threshold, y > 0)
    columns = list(zip(predicted.T, present.T, strict=True))
    by_emotion = {
        "acc": [_agreement(*column) for column in columns],
        "wa": [_weighted_accuracy(*column) for column in columns],
        "f1": [_weighted_f1(*column, "references") for column in columns],
    }
    scores = {"acc6": _share(hit[labelled])}
    scores |= {f"{name}_avg": _mean_of_defined(values) for name, values in by_emotion.items()}
    if single_label:
        true_class = np.where(hit, highest, strongest.argmax(axis=1))
        classes = range(len(EMOTIONS))
        scores["f1_weighted"] = _weighted_f1(highest[labelled], true_class[labelled], "references", classes)
    for k, emotion in enumerate(EMOTIONS):
        scores |= {f"{name}_{emotion}": values[k] for name, values in by_emotion.items()}
    return scores


def greater_is_better(name: str) -> bool:
    """Whether a larger value of the metric `name` is a better one; what `metric_for_best_model` needs beside it.

    Raises:
        ValueError: nothing here reports a metric of that name; the message names the nearest one.

    Example:
        >>> greater_is_better("mae"), greater_is_better("acc7"), greater_is_better("wa_happy")
        (False, True, True)
    """
    known = sorted({metric for names in METRIC_NAMES.values() for metric in names})
    if name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
        raise ValueError(f"`name` must be a metric, one of {', '.join(known)}; got {name!r}. Nearest: {nearest!r}.")
    return name not in LOWER_IS_BETTER


class MultimodalSentiment(evaluate.Metric):
    """`regression_metrics` and `emotion_metrics` behind the interface of `evaluate`: batches, processes, the Hub.

    The configuration "default" is `regression_metrics`; its `compute` takes `convention`, `f1_weights` and `ids` as
    keyword arguments. "emotions" is `emotion_metrics`; its `compute` takes `single_label`, `threshold` and `ids`.
    Inputs are stored as float64, so that neither float32 nor float64 values change between `add_batch` and `compute`.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _OPTIONS:
            raise ValueError(
                f"multimodal_sentiment has the configurations 'default' (sentiment) and 'emotions'; got "
                f'{self.config_name!r}. Choose a convention where it is used: compute(..., convention="sims").'
            )
        number = datasets.Value("float64")
        # Lists without a fixed length: rows of another length are refused by `emotion_metrics`, whose message says why.
        value = datasets.Sequence(number) if self.config_name == "emotions" else number
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_EMOTION_INPUTS if self.config_name == "emotions" else _SENTIMENT_INPUTS,
            features=datasets.Features({"predictions": value, "references": value}),
            reference_urls=[
                "https://arxiv.org/abs/1606.06259",
                "https://aclanthology.org/P18-1208",
                "https://aclanthology.org/2020.acl-main.343",
            ],
        )

    def _compute(
        self,
        *,
        predictions: Sequence[Any],
        references: Sequence[Any],
        ids: Sequence[Any] | None = None,
        **options: Any,
    ) -> dict[str, float]:
        for configuration, names in _OPTIONS.items():
            foreign = [name for name in names if name in options and configuration != self.config_name]
            if foreign:
                raise ValueError(
                    f"`{foreign[0]}` belongs to the configuration {configuration!r}; this is {self.config_name!r}, "
                    f"with {' and '.join(f'`{name}`' for name in _OPTIONS[self.config_name])}. "
                    f"Leave it out, or load the other one: evaluate.load(..., {configuration!r})."
                )
        score = emotion_metrics if self.config_name == "emotions" else regression_metrics
        return score(predictions, references, ids=ids, **options)


def _mosi_metrics(p: np.ndarray, y: np.ndarray, f1_weights: str) -> dict[str, float]:
    polar = y != 0
    return {
        "mae": _mean_absolute_error(p, y),
        "corr": _pearson(p, y),
        "acc7": _agreement(*(np.rint(np.clip(values, -3, 3)) for values in (p, y))),
        "acc5": _agreement(*(np.rint(np.clip(values, -2, 2)) for values in (p, y))),
        "acc2_has0": _agreement(p >= 0, y >= 0),
        "f1_has0": _weighted_f1(p >= 0, y >= 0, f1_weights),
        "acc2_non0": _agreement(p[polar] > 0, y[polar] > 0),
        "f1_non0": _weighted_f1(p[polar] > 0, y[polar] > 0, f1_weights),
    }


def _sims_metrics(p: np.ndarray, y: np.ndarray, f1_weights: str) -> dict[str, float]:
    p, y = np.clip(p, -1, 1), np.clip(y, -1, 1)
    classes = {name: (_right_closed_bins(p, cuts), _right_closed_bins(y, cuts)) for name, cuts in _SIMS_CUTS.items()}
    predicted_sign, true_sign = classes["acc2"]
    return {
        "mae": _mean_absolute_error(p, y),
        "corr": _pearson(p, y),
        **{name: _agreement(*pair) for name, pair in classes.items()},
        "f1": _weighted_f1(predicted_sign == 1, true_sign == 1, f1_weights),
    }


def _mean_absolute_error(p: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs(p - y).mean())


def _agreement(p: np.ndarray, y: np.ndarray) -> float:
    """Share of equal entries; nan when there are none to compare."""
    return _share(p == y)


def _share(flags: np.ndarray) -> float:
    """How many of the flags are True, as a fraction; nan when there are none."""
    return float(flags.mean()) if flags.size else float("nan")


def _weighted_accuracy(p: np.ndarray, y: np.ndarray) -> float:
    """Mean of recall and specificity; nan where y has one class only."""
    return (_share(p[y]) + _share(~p[~y])) / 2


def _mean_of_defined(values: Sequence[float]) -> float:
    """Mean of what is not nan; nan when everything is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _right_closed_bins(values: np.ndarray, cuts: tuple[float, ...]) -> np.ndarray:
    """How many cuts lie strictly below each value, all taken as float32."""
    return np.searchsorted(np.asarray(cuts, dtype=np.float32), values.astype(np.float32), side="left")


def _weighted_f1(p: np.ndarray, y: np.ndarray, f1_weights: str, classes: Sequence[int] = (False, True)) -> float:
    """Mean F1 of the classes, weighted by their frequency in y or in p; nan without samples."""
    if not y.size:
        return float("nan")
    total = 0.0
    for label in classes:
        predicted, true = int((p == label).sum()), int((y == label).sum())
        hits = int(((p == label) & (y == label)).sum())
        weight = true if f1_weights == "references" else predicted
        if weight:  # a class without weight may also have no F1: 0 / 0
            total += weight * 2 * hits / (predicted + true)
    return total / y.size


def _pearson(p: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r; nan where a variance is 0, which also covers a single sample."""
    # Compared with the first value, not through the variance: the mean of equal floats may miss them by a rounding
    # error, and the correlation of rounding errors is a number that looks real.
    if (p == p[0]).all() or (y == y[0]).all():
        return float("nan")
    p, y = _centred(p), _centred(y)
    r = (p @ y) / (np.sqrt(p @ p) * np.sqrt(y @ y))
    return float(np.clip(r, -1.0, 1.0))


def _centred(values: np.ndarray) -> np.ndarray:
    """Values minus their mean, first scaled by a power of two (exact) so that no square over- or underflows."""
    _, exponent = np.frexp(np.abs(values).max())
    values = np.ldexp(values, -int(exponent))
    return values - values.mean()


def _as_vector(argument: str, values: Any) -> np.ndarray:
    """The values as float64 of shape (samples,)."""
    array = _as_numbers(argument, values)
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise ValueError(
            f"`{argument}` must have shape (samples,) or (samples, 1); got {array.shape}. "
            f"Score one target at a time: select its column."
        )
    return array.reshape(-1)


def _as_emotion_rows(argument: str, values: Any) -> np.ndarray:
    """The values as float64 of shape (samples, 6)."""
    array = _as_numbers(argument, values)
    if array.shape == (0,):  # an empty list has no columns to count
        array = array.reshape(0, len(EMOTIONS))
    if array.ndim != 2 or array.shape[1] != len(EMOTIONS):
        raise ValueError(
            f"`{argument}` must have shape (samples, {len(EMOTIONS)}), its columns in the order {', '.join(EMOTIONS)}; "
            f"got {array.shape}. Select those columns; in the label file of CMU-MOSEI sentiment is in front of them."
        )
    return array


def _as_numbers(argument: str, values: Any) -> np.ndarray:
    """The values as float64, of any shape."""
    try:
        array = np.asarray(values)
        if array.dtype == object:  # a list with None in it, for one: None becomes nan and is reported as such
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{argument}` must be real numbers, equally many per sample; numpy says: {error}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`{argument}` must be real numbers; got {array.dtype}. Convert class names or flags first.")
    return array.astype(np.float64)


def _checked_pair(
    predictions: Any,
    references: Any,
    ids: Sequence[Any] | None,
    convert: Callable[[str, Any], np.ndarray] = _as_vector,
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs as finite float64 arrays of the same, positive number of samples, in the shape `convert` asks for."""
    p, y = convert("predictions", predictions), convert("references", references)
    if len(p) != len(y):
        raise ValueError(
            f"`predictions` and `references` must have one entry per sample; got {len(p)} predictions and "
            f"{len(y)} references. Pass both for the same samples, in the same order."
        )
    if not y.size:
        raise ValueError("`predictions` and `references` must not be empty; got 0 samples. Check the split evaluated.")
    if ids is not None:
        ids = list(ids)
        if len(ids) != len(y):
            raise ValueError(f"`ids` must have one entry per sample; got {len(ids)} ids for {len(y)} samples.")
    _check_finite("predictions", p, ids)
    _check_finite("references", y, ids)
    return p, y


def _check_finite(argument: str, values: np.ndarray, ids: list[Any] | None) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return
    where, hint = _place(bad[0], ids)
    raise ValueError(
        f"`{argument}` must be finite; got {values[tuple(bad[0])]} {where}. {len(bad)} of {values.size} values are not "
        f"finite. {hint} No sample is left out of a score unasked."
    )


def _check_not_negative(argument: str, values: np.ndarray, ids: list[Any] | None) -> None:
    bad = np.argwhere(values < 0)
    if not len(bad):
        return
    where, hint = _place(bad[0], ids)
    raise ValueError(
        f"`{argument}` must be intensities from 0 (absent) up; got {values[tuple(bad[0])]} {where}. "
        f"{len(bad)} of {values.size} values are negative. {hint} Sentiment may be negative; it is no emotion here."
    )


def _place(index: np.ndarray, ids: list[Any] | None) -> tuple[str, str]:
    """In words, where a value at (sample,) or (sample, emotion) is, and how to find out more."""
    sample, *column = (int(k) for k in index)
    emotion = f", emotion {EMOTIONS[column[0]]!r}" if column else ""
    if ids is None:
        return f"at position {sample}{emotion}", "Pass `ids` to see the sample's name."
    name = ids[sample].item() if isinstance(ids[sample], np.generic) else ids[sample]
    return f"for id {name!r} (position {sample}){emotion}", "Look at that sample's features and label."


def _check_choice(argument: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {', '.join(map(repr, choices))}; got {value!r}.")


def _check_threshold(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not np.isfinite(float(value)):
        raise ValueError(f"`threshold` must be a finite number, 0.5 for probabilities, 0 for logits; got {value!r}.")

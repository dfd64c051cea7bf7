"""The numbers by which multimodal sentiment models are compared, as one `evaluate` metric.

Papers on CMU-MOSI, CMU-MOSEI and CH-SIMS train a regression (sentiment from -3 to 3, or from -1 to 1) and then report
both regression errors and accuracies over several binnings of the same numbers. The binnings differ in small ways that
change scores, so each is written out here once, and the metric card beside this file says which paper uses which.

The file stands alone: it needs numpy, datasets and evaluate, because `evaluate.load` copies it without its folder.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

METRIC_NAMES: dict[str, tuple[str, ...]] = {
    "mosi": ("mae", "corr", "acc7", "acc5", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0"),
    "sims": ("mae", "corr", "acc2", "acc3", "acc5", "f1"),
}
"""Convention -> the names of what it reports, in the order it reports them."""

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

_DESCRIPTION = """\
Scores sentiment intensities the way papers on CMU-MOSI, CMU-MOSEI and CH-SIMS do: mean absolute error, Pearson
correlation, and accuracies and F1 over classes cut from the same numbers. All accuracies and F1 scores are fractions.
"""

_INPUTS_DESCRIPTION = """
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

_CITATION = """\
@article{zadeh2016mosi,
  title   = {{MOSI}: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis in Online Opinion Videos},
  author  = {Zadeh, Amir and Zellers, Rowan and Pincus, Eli and Morency, Louis-Philippe},
  journal = {arXiv preprint arXiv:1606.06259},
  year    = {2016}
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
    _check_choice("convention", convention, tuple(METRIC_NAMES))
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


def greater_is_better(name: str) -> bool:
    """Whether a larger value of the metric `name` is a better one; what `metric_for_best_model` needs beside it.

    Raises:
        ValueError: no convention reports a metric of that name; the message names the nearest one.

    Example:
        >>> greater_is_better("mae"), greater_is_better("acc7")
        (False, True)
    """
    known = sorted({metric for names in METRIC_NAMES.values() for metric in names})
    if name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
        raise ValueError(f"`name` must be a metric, one of {', '.join(known)}; got {name!r}. Nearest: {nearest!r}.")
    return name not in LOWER_IS_BETTER


class MultimodalSentiment(evaluate.Metric):
    """`regression_metrics` behind the interface of `evaluate`: batches, processes, and loading from the Hub.

    `compute` takes `convention`, `f1_weights` and `ids` as keyword arguments. Inputs are stored as float64, so that
    neither float32 nor float64 values change between `add_batch` and `compute`.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name != "default":
            raise ValueError(
                f"multimodal_sentiment has no configurations; got {self.config_name!r}. "
                f'Choose the convention where it is used: compute(..., convention="sims").'
            )
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
            reference_urls=["https://arxiv.org/abs/1606.06259", "https://aclanthology.org/2020.acl-main.343"],
        )

    def _compute(
        self,
        *,
        predictions: Sequence[float],
        references: Sequence[float],
        ids: Sequence[Any] | None = None,
        convention: str = "mosi",
        f1_weights: str = "references",
    ) -> dict[str, float]:
        return regression_metrics(predictions, references, ids=ids, convention=convention, f1_weights=f1_weights)


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
    return float((p == y).mean()) if y.size else float("nan")


def _right_closed_bins(values: np.ndarray, cuts: tuple[float, ...]) -> np.ndarray:
    """How many cuts lie strictly below each value, all taken as float32."""
    return np.searchsorted(np.asarray(cuts, dtype=np.float32), values.astype(np.float32), side="left")


def _weighted_f1(p: np.ndarray, y: np.ndarray, f1_weights: str) -> float:
    """Mean F1 of the classes False and True, weighted by their frequency in y or in p; nan without samples."""
    if not y.size:
        return float("nan")
    total = 0.0
    for label in (False, True):
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


def _checked_pair(predictions: Any, references: Any, ids: Sequence[Any] | None) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs as finite float64 vectors of the same, positive length."""
    p, y = _as_vector("predictions", predictions), _as_vector("references", references)
    if p.size != y.size:
        raise ValueError(
            f"`predictions` and `references` must have one value per sample; got {p.size} predictions and "
            f"{y.size} references. Pass both for the same samples, in the same order."
        )
    if not y.size:
        raise ValueError("`predictions` and `references` must not be empty; got 0 samples. Check the split evaluated.")
    if ids is not None:
        ids = list(ids)
        if len(ids) != y.size:
            raise ValueError(f"`ids` must have one entry per sample; got {len(ids)} ids for {y.size} samples.")
    _check_finite("predictions", p, ids)
    _check_finite("references", y, ids)
    return p, y


def _as_vector(argument: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype == object:  # a list with None in it, for one: None becomes nan and is reported as such
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{argument}` must be real numbers, one per sample; numpy says: {error}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`{argument}` must be real numbers; got {array.dtype}. Convert class names or flags first.")
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise ValueError(
            f"`{argument}` must have shape (samples,) or (samples, 1); got {array.shape}. "
            f"Score one target at a time: select its column."
        )
    return array.astype(np.float64).reshape(-1)


def _check_finite(argument: str, values: np.ndarray, ids: list[Any] | None) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if not bad.size:
        return
    first = int(bad[0])
    if ids is None:
        where = f"at position {first}"
        hint = "Pass `ids` to see the sample's name."
    else:
        name = ids[first].item() if isinstance(ids[first], np.generic) else ids[first]
        where = f"for id {name!r} (position {first})"
        hint = "Look at that sample's features and label."
    raise ValueError(
        f"`{argument}` must be finite; got {values[first]} {where}. {bad.size} of {values.size} values are not "
        f"finite. {hint} No sample is left out of a score unasked."
    )


def _check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {', '.join(map(repr, choices))}; got {value!r}.")

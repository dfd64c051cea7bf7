"""SUGRM's label generation, against a plain implementation of the paper's section 3.3 and against known numbers."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from datasets_scripts import MODALITIES
from training.label_generation import SugrmLabelGenerator


class Section33:
    """
    Section 3.3 of the SUGRM paper, sample by sample in double precision; after every batch, all means are made anew
    from the multimodal representations of all samples.
    """

    def __init__(self, labels, modalities, label_range, clip, zero_is_positive):
        self.y_m = [float(label) for label in labels]
        self.low_end, self.high_end = label_range
        self.clip = clip
        self.u = {s: list(self.y_m) for s in modalities}
        self.stored = [None for _ in self.y_m]
        self.updated_in = [0 for _ in self.y_m]
        samples = range(len(self.y_m))
        self.rows = {
            "positive": [i for i in samples if self.y_m[i] > 0 or (self.y_m[i] == 0 and zero_is_positive)],
            "negative": [i for i in samples if self.y_m[i] < 0],
            "highest": self.at_the_end(self.high_end, sorted(samples, key=lambda i: -self.y_m[i])),
            "lowest": self.at_the_end(self.low_end, sorted(samples, key=lambda i: self.y_m[i])),
        }
        highest, lowest = ([self.y_m[i] for i in self.rows[name]] for name in ("highest", "lowest"))
        self.label_distance = sum(highest) / len(highest) - sum(lowest) / len(lowest)
        self.cases = Counter()
        self.means()

    def at_the_end(self, end, ranked):
        """The samples with this label, or the first fiftieth of the ranked ones, at least one."""
        return [i for i in ranked if self.y_m[i] == end] or ranked[: max(1, round(len(ranked) / 50))]

    def means(self):
        self.mean = {}
        for name, rows in self.rows.items():
            stored = [self.stored[i] for i in rows if self.stored[i] is not None]
            self.mean[name] = sum(stored) / len(stored) if stored else None

    def generated(self, y_m, f_m, f_s):
        d_max = math.dist(self.mean["highest"], self.mean["lowest"])
        distance = math.dist(f_m, f_s)
        self.cases["beyond D_max" if distance > d_max else "within D_max"] += 1
        magnitude = min(distance, d_max) / d_max * self.label_distance
        ratio_m, ratio_s = (
            math.dist(f, self.mean["positive"]) / math.dist(f, self.mean["negative"]) for f in (f_m, f_s)
        )
        direction = "plus" if ratio_s < ratio_m else "minus" if ratio_s > ratio_m else "none"
        self.cases[direction] += 1
        value = y_m + {"plus": magnitude, "minus": -magnitude, "none": 0}[direction]
        bounded = min(max(value, self.low_end), self.high_end) if self.clip else value
        self.cases["clipped"] += bounded != value
        return bounded

    def step(self, epoch, rows, states, present):
        """One batch: its labels, its representations, the means."""
        first_places = {row: place for place, row in reversed(list(enumerate(rows)))}
        for row, place in first_places.items():
            if epoch == 1 or self.updated_in[row] == epoch or any(mean is None for mean in self.mean.values()):
                continue
            for s, labels in self.u.items():
                if present[s][place]:
                    new = self.generated(self.y_m[row], states["fusion"][place], states[s][place])
                    labels[row] = (epoch - 1) / (epoch + 1) * labels[row] + 2 / (epoch + 1) * new
        for row, place in first_places.items():
            self.updated_in[row] = epoch
            self.stored[row] = states["fusion"][place]
        self.means()


def train_both(run, paper, epochs, size, lacks, repeat=False):
    """Epochs in the generator and the plain implementation, which must agree after every batch."""
    for epoch in range(1, epochs + 1):
        run.generator.start_epoch(epoch)
        batches = run.batches(size)
        if repeat:  # rows twice in a batch, and again in the same epoch
            batches[1] += [batches[1][0], batches[1][0]]
            batches[-1] += batches[0][:3] + batches[-1][:1]
        for rows in batches:
            states = run.states(rows)
            present = {m: ~lacks[m][rows] for m in run.modalities}
            run.update(rows, states, present)
            paper.step(epoch, rows, {k: v.astype(np.float64) for k, v in states.items()}, present)
            for m in run.modalities:
                np.testing.assert_allclose(run.generator.labels[m][:-1].numpy(), paper.u[m], rtol=1e-9, atol=1e-9)
        if epoch == 1:
            for m in run.modalities:
                assert paper.u[m] == run.labels.tolist()


@pytest.mark.parametrize("label_range", [(-1.0, 1.0), (-3.0, 3.0)], ids=["sims", "mosi"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("zero_is_positive", [True, False])
@pytest.mark.parametrize("modalities", [MODALITIES, ("text", "vision"), ("audio",)], ids=["tav", "tv", "a"])
def test_equals_section_3_3(simulate, label_range, clip, zero_is_positive, modalities):
    switches = {"clip": clip, "zero_is_positive": zero_is_positive}
    seed = [int(clip), int(zero_is_positive), len(modalities)]
    low, high = label_range
    fixed = {3: high, 12: high, 20: high, 7: low, 25: low}
    run = simulate("sugrm", seed, 29, label_range, modalities, fixed=fixed, **switches)
    lacks = {m: run.random.random(29) < 0.2 for m in modalities}  # by sample, the same in every epoch
    paper = Section33(run.labels, modalities, label_range, clip, zero_is_positive)
    train_both(run, paper, epochs=5, size=4, lacks=lacks)
    for case in ("beyond D_max", "within D_max", "plus", "minus", *(["clipped"] if clip else [])):
        assert paper.cases[case] > 5, case
    assert paper.label_distance == high - low and (run.labels == 0).any()
    for m in modalities:
        final = np.array(paper.u[m])
        assert (final[lacks[m]] == run.labels[lacks[m]]).all() and lacks[m].any()
        assert (np.abs(final - run.labels) > 1e-6)[~lacks[m]].mean() > 0.8  # opposite offsets of full size may cancel
        assert (low <= final.min() and final.max() <= high) == clip
        np.testing.assert_allclose(run.generator.targets(torch.arange(29))[m].numpy(), final.astype(np.float32))


@pytest.mark.parametrize("ends", [("high", "low"), ("high",), ("low",), ()], ids=lambda ends: "+".join(ends) or "none")
def test_extremes_and_repetitions_equal_section_3_3(simulate, ends):
    """
    With and without extreme labels; batches have rows twice, and rows that come again in the same epoch. Zeros count,
    as the row to which repetitions are written would, were it not left out.
    """
    fixed = {"high": {2: 3, 31: 3, 70: 3}, "low": {14: -3, 40: -3}}
    fixed = {row: label for end in ends for row, label in fixed[end].items()}
    run = simulate("sugrm", seed=8, samples=80, fixed=fixed, zero_is_positive=True)
    lacks = {m: run.random.random(80) < 0.2 for m in MODALITIES}
    paper = Section33(run.labels, MODALITIES, (-3, 3), clip=True, zero_is_positive=True)
    assert [len(paper.rows[name]) for name in ("highest", "lowest")] == [3 if "high" in ends else 2, 2]
    assert (paper.label_distance < 6) == (len(ends) < 2)
    train_both(run, paper, epochs=4, size=8, lacks=lacks, repeat=True)
    assert min(paper.cases[case] for case in ("beyond D_max", "within D_max", "plus", "minus")) > 5


# Known numbers


@pytest.fixture
def known_case(simulate):
    """
    Four samples that fix the class means at (1, 0) and (-1, 0) and, the extreme ones being farther out, D_max at 2.5;
    then, in the second epoch, a fifth with the label 1.2, which has not been seen before.
    """

    def make(fusion, text, positive=((1.25, 0), (0.75, 0)), negative=((-1.25, 0), (-0.75, 0)), before=1.2, **changes):
        split = {"labels": [3.0, 1.0, -3.0, -1.0, 1.2], "modalities": ("text",)}
        run = simulate("sugrm", seed=0, **split | changes)
        states = [*positive, *negative]
        run.generator.start_epoch(1)
        run.update([0, 1, 2, 3], {"fusion": states, "text": states})
        run.generator.start_epoch(2)
        run.generator.labels["text"][4] = before
        run.update([4], {"fusion": [fusion], "text": [text]})
        return run

    return make


def label_of(run):
    return run.generator.labels["text"][4].item()


def test_known_numbers(known_case):
    state = (0.5, 0.0), (-0.2, 0.1)
    assert 6 * math.dist(*state) / 2.5 == pytest.approx(1.6970563, abs=1e-7)
    run = known_case(*state)
    assert label_of(run) == pytest.approx(0.0686292, abs=1e-6)
    assert (label_of(run) - 1.2 / 3) * 3 / 2 == pytest.approx(-0.4970563, abs=1e-6)

    # Epoch 3: the second sample moves so that, with the fifth among them, the means are where they were.
    run.generator.start_epoch(3)
    run.update([1], {"fusion": [(1.25, 0.0)], "text": [(1.25, 0.0)]})
    run.update([4], {"fusion": state[:1], "text": state[1:]})
    assert label_of(run) == pytest.approx((0.0686292 - 0.4970563) / 2, abs=1e-6)


@pytest.mark.parametrize(("clip", "expected"), [(True, -3.0), (False, 1.2 - 6.0)])
@pytest.mark.parametrize("x", [-2.0, -2.1, -50.0])
def test_no_distance_counts_beyond_the_extremes(known_case, clip, expected, x):
    run = known_case((0.5, 0.0), (x, 0.0), clip=clip)
    assert label_of(run) == pytest.approx(1.2 / 3 + 2 / 3 * expected, abs=1e-6)


@pytest.mark.parametrize(
    ("fusion", "text"),
    [((0.5, 1.0), (0.5, -1.0)), ((0.5, 1.0), (0.5, 1.0)), ((0.5, 0.0), (2.0, 0.0))],
    ids=["mirrored", "same", "both three times as far from the negative mean"],
)
def test_equal_ratios_bring_the_label_back(known_case, fusion, text):
    """Direction 0: what is generated is y_m, whatever the distance, and the momentum average goes towards it."""
    run = known_case(fusion, text, before=-0.9)
    assert label_of(run) == pytest.approx(-0.9 / 3 + 2 / 3 * 1.2, abs=1e-12)


@pytest.mark.parametrize(
    ("fusion", "text", "expected"),
    [
        ((0.5, 0.0), (1.0, 0.0), 1.2 + 1.2),  # at a distance of 0 the ratio is 0 ...
        ((0.5, 0.0), (-1.0, 0.0), 1.2 - 3.6),  # ... or infinite
        ((1.0, 0.0), (0.0, 0.0), 1.2 - 2.4),
        ((-1.0, 0.0), (0.0, 0.0), 3.0),
        ((-1.0, 0.0), (1.0, 0.0), 3.0),
        ((1.0, 0.0), (-1.0, 0.0), -3.0),
        ((1.0, 0.0), (1.0, 0.0), 1.2),
        ((-1.0, 0.0), (-1.0, 0.0), 1.2),
    ],
)
def test_representations_on_a_mean(known_case, fusion, text, expected):
    assert label_of(known_case(fusion, text)) == pytest.approx(1.2 / 3 + 2 / 3 * expected, abs=1e-6)


def test_class_means_at_one_place_give_no_direction(known_case):
    run = known_case((0.5, 0), (-0.2, 0.1), ((1.25, 0), (-1.25, 0)), ((-1.25, 0), (1.25, 0)), before=-0.9)
    assert label_of(run) == pytest.approx(-0.9 / 3 + 2 / 3 * 1.2, abs=1e-12)


def test_extremes_at_one_place_give_no_magnitude(known_case):
    """D_max is 0, as at the start of a training whose states are all the same: no offset, and no NaN."""
    run = known_case((0.5, 0), (-0.2, 0.1), ((0, 0.5), (0.75, 0)), ((0, 0.5), (-0.75, 0)), before=-0.9)
    assert label_of(run) == pytest.approx(-0.9 / 3 + 2 / 3 * 1.2, abs=1e-12)


# Extreme labels


def extremes_of(run):
    """Rows that stand for the highest label, those for the lowest, and the distance of their labels."""
    extremes = run.generator.extremes[:-1].numpy()
    return np.flatnonzero(extremes > 0).tolist(), np.flatnonzero(extremes < 0).tolist(), run.generator.label_distance


def with_labels(samples, labels):
    """Labels from -1 to 1, none of them twice, but for those given by row."""
    result = np.random.default_rng(1).permutation(np.linspace(-1, 1, samples))
    for row, label in labels.items():
        result[row] = label
    return result


def test_a_corpus_with_extreme_labels(simulate):
    labels = with_labels(100, {4: 3, 60: 3, 61: 2.8, 9: -3, 10: -2.999})
    run = simulate("sugrm", seed=0, labels=labels)
    assert extremes_of(run) == ([4, 60], [9], 6.0)
    assert run.generator.notes == []


def test_extremes_of_sims_in_single_precision(simulate):
    """CH-SIMS has eleven labels, from -1 to 1 in steps of 0.2."""
    labels = np.float32([-1, -0.8, -0.6, 0.8, 1, 0.2, -1, 0, 1])
    run = simulate("sugrm", seed=0, labels=labels, label_range=(-1.0, 1.0))
    assert extremes_of(run) == ([4, 8], [0, 6], 2.0)
    assert run.generator.notes == []


@pytest.mark.parametrize(("samples", "count"), [(100, 2), (20, 1), (160, 3)])
def test_a_corpus_without_extreme_labels(simulate, samples, count):
    """A fiftieth of the samples stands for each end, and at least one; of equal labels the ids decide."""
    high, low = {6: 2.5, 13: 2.7, 11: 2.5, 3: 2.5}, {8: -1.25, 16: -1.25, 5: -1.5, 19: -1.25}
    run = simulate("sugrm", seed=0, labels=with_labels(samples, high | low))
    highest, lowest = sorted([13, 6, 3][:count]), sorted([5, 16, 19][:count])  # by (label, id)
    mean_high, mean_low = (2.7 + (count - 1) * 2.5) / count, (-1.5 - (count - 1) * 1.25) / count
    assert extremes_of(run) == (highest, lowest, pytest.approx(mean_high - mean_low))
    above, below = run.generator.notes
    ranges = ("(2.7 to 2.7)", "(-1.5 to -1.5)") if count == 1 else ("(2.5 to 2.7)", "(-1.5 to -1.25)")
    assert "label 3;" in above and f"the {count} with the highest labels {ranges[0]}" in above
    assert "label -3;" in below and f"the {count} with the lowest labels {ranges[1]}" in below


def test_what_stands_for_the_extremes_does_not_depend_on_the_order_of_the_split():
    labels, ids = [2.5, 2.5, -1.0, -2.0, -2.0, 0.5], list("bacfed")
    found = []
    for order in ([0, 1, 2, 3, 4, 5], [1, 0, 5, 4, 2, 3]):
        generator = SugrmLabelGenerator([ids[i] for i in order], [labels[i] for i in order], ("text",), (-3, 3))
        found.append(dict(zip(generator.ids, generator.extremes.tolist(), strict=False)))
    assert found[0] == found[1] == {"a": 0, "b": 1, "c": 0, "d": 0, "e": -1, "f": 0}


def test_no_sample_stands_for_both_ends():
    generator = SugrmLabelGenerator([f"{i:03}" for i in range(100)], [0.0] * 98 + [1.0, -1.0], ("text",), (-3, 3))
    assert sorted(np.flatnonzero(generator.extremes.numpy()).tolist()) == [0, 97, 98, 99]
    assert generator.label_distance == 0.5 - -0.5


@pytest.mark.parametrize("end", [3, -3])
def test_a_corpus_with_extreme_labels_at_one_end(simulate, end):
    sign = end // 3
    run = simulate("sugrm", seed=0, labels=with_labels(100, {4: end, 60: end, 7: -2.25 * sign, 8: -1.75 * sign}))
    highest, lowest, distance = extremes_of(run)
    assert (highest, lowest) == (([4, 60], [7, 8]) if sign > 0 else ([7, 8], [4, 60]))
    assert distance == pytest.approx(3 + 2)
    (note,) = run.generator.notes
    assert f"label {-end};" in note and ("lowest" if sign > 0 else "highest") in note


def test_the_distance_of_the_labels_that_stand_for_the_extremes(known_case):
    """The ends' labels are 2 and -1, half the range apart: half the offset of `test_known_numbers`."""
    run = known_case((0.5, 0.0), (-0.2, 0.1), labels=[2.0, 1.0, -1.0, -0.5, 1.2])
    assert label_of(run) == pytest.approx(1.2 - 2 / 3 * 1.6970563 / 2, abs=1e-6)


@pytest.mark.parametrize(("seen", "expected"), [([1, 2, 3], 1.2), ([0, 1, 3], 1.2), ([0, 1, 2, 3], 2.0)])
def test_labels_wait_for_the_extremes(simulate, seen, expected):
    """The first epoch may leave samples out (`dataloader_drop_last`); without an extreme there is no D_max."""
    run = simulate("sugrm", seed=0, labels=[3.0, 1.0, -3.0, -1.0, 1.2], modalities=("text",))
    states = np.float32([(1.5, 0), (0.5, 0), (-1.5, 0), (-0.5, 0)])[seen]
    run.generator.start_epoch(1)
    run.update(seen, {"fusion": states, "text": states})
    run.generator.start_epoch(2)
    run.update([4], {"fusion": [(0.0, 0.0)], "text": [(0.6, 0.0)]})
    assert label_of(run) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[0.5, 3.0, 2.0, 1.5], [-0.5, -3.0, -2.0, -1.5], [0.0] * 4, [1.0]])
def test_an_empty_class_leaves_labels(simulate, labels):
    run = simulate("sugrm", seed=6, labels=labels)
    run.train(3)
    for m in MODALITIES:
        assert run.generator.labels[m][:-1].tolist() == labels


def test_zeros_are_a_class_where_they_are_said_to_be(simulate):
    """Negative labels and zeros: with `zero_is_positive` there are two classes, and labels are generated."""
    labels = [-1.0, 0.0, -3.0, 0.0, -2.0]
    for zero_is_positive in (False, True):
        run = simulate("sugrm", seed=6, labels=labels, zero_is_positive=zero_is_positive)
        run.train(2)
        changed = run.generator.labels["text"][:-1].numpy() != labels
        assert changed.any() == zero_is_positive


def test_a_missing_modality_keeps_its_label_and_does_not_touch_the_means(simulate):
    """The multimodal representation counts whatever the sample lacks; no other one is kept."""
    run = simulate("sugrm", seed=7, samples=15)
    generator = run.generator
    for epoch in (1, 2, 3):
        generator.start_epoch(epoch)
        for rows in run.batches(5):
            present = {"text": np.ones(5, bool), "audio": run.labels[rows] > 0, "vision": np.zeros(5, bool)}
            run.update(rows, present=present)
    assert generator.labels["vision"][:-1].tolist() == run.labels.tolist()
    changed = {m: generator.labels[m][:-1].numpy() != run.labels for m in ("text", "audio")}
    assert changed["text"].all() and (changed["audio"] == (run.labels > 0)).all()
    assert generator.spaces["fusion"].counts.tolist() == [(run.labels > 0).sum(), (run.labels < 0).sum()]
    assert generator.spaces.keys() == {"fusion", "extremes"}

"""Generated unimodal labels, against a plain implementation of the paper's algorithm and against known numbers."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import TrainerControl

from modeling.modeling_multitask import weighted_multitask_loss
from training.label_callback import HISTORY_FILE, STATE_FILE, LabelGenerationCallback
from training.label_generation import LabelGenerator, SelfMMLabelGenerator

MODALITIES = ("text", "audio", "vision")
SPACES = ("fusion", *MODALITIES)
WIDTHS = {"fusion": 7, "text": 5, "audio": 1, "vision": 3}


class Algorithm1:
    """
    Algorithm 1 of the Self-MM paper, sample by sample in double precision; after every batch, all class centres are
    made anew from the representations of all samples.
    """

    def __init__(self, labels, modalities, label_range, clip, zero_is_positive):
        self.y_m = [float(label) for label in labels]
        self.modalities = modalities
        self.low, self.high = label_range
        self.clip = clip
        self.zero_is_positive = zero_is_positive
        samples = range(len(self.y_m))
        self.u = {s: list(self.y_m) for s in modalities}  # line 2
        self.global_states = {k: [None for _ in samples] for k in ("fusion", *modalities)}  # line 3
        self.updated_in = [0 for _ in samples]
        self.clipped = 0
        self.centres()

    def centres(self):
        """Equations 1 and 2."""
        self.positive, self.negative = {}, {}
        for k, stored in self.global_states.items():
            labels = self.y_m if k == "fusion" else self.u[k]
            above, below = [], []
            for label, state in zip(labels, stored, strict=True):
                if state is None:
                    continue
                if label > 0 or (label == 0 and self.zero_is_positive):
                    above.append(state)
                elif label < 0:
                    below.append(state)
            self.positive[k] = sum(above) / len(above) if above else None
            self.negative[k] = sum(below) / len(below) if below else None

    def alpha(self, k, state):
        """Equations 3 to 5; None where a class has no sample."""
        if self.positive[k] is None or self.negative[k] is None:
            return None
        to_positive = math.sqrt(sum((state - self.positive[k]) ** 2)) / math.sqrt(len(state))
        to_negative = math.sqrt(sum((state - self.negative[k]) ** 2)) / math.sqrt(len(state))
        return (to_negative - to_positive) / (to_positive + 1e-8)

    def generated(self, y_m, alpha_s, alpha_m):
        """Equation 8."""
        divisor = math.copysign(max(abs(alpha_m), 1e-8), -1 if alpha_m < 0 else 1)
        value = y_m * alpha_s / (2 * divisor) + (y_m + alpha_s - alpha_m) / 2
        if not self.clip:
            return value
        bounded = min(max(value, self.low), self.high)
        self.clipped += bounded != value
        return bounded

    def step(self, n, rows, states, present):
        """Lines 10 to 15 for one batch of epoch n."""
        batch = []
        for place, row in enumerate(rows):
            if row not in [known for _, known in batch]:
                batch.append((place, row))
        if n > 1:
            for place, row in batch:
                alpha_m = self.alpha("fusion", states["fusion"][place])
                for s in self.modalities:
                    if not present[s][place] or self.updated_in[row] == n:
                        continue
                    alpha_s = self.alpha(s, states[s][place])
                    if alpha_m is None or alpha_s is None:
                        continue
                    value = self.generated(self.y_m[row], alpha_s, alpha_m)
                    self.u[s][row] = (n - 1) / (n + 1) * self.u[s][row] + 2 / (n + 1) * value  # equation 9
        for place, row in batch:
            self.updated_in[row] = n
            for k in self.global_states:
                if k == "fusion" or present[k][place]:
                    self.global_states[k][row] = states[k][place]
        self.centres()


def draw_labels(random, samples, label_range):
    """Labels over the whole range, a fifth of them exactly zero."""
    labels = random.uniform(*label_range, size=samples).astype(np.float32)
    labels[random.permutation(samples)[: samples // 5]] = 0.0
    return labels


def draw_states(random, rows, labels, modalities=MODALITIES):
    """Representations in float32 that lean with the label, more in some spaces than in others."""
    return {
        k: np.abs(
            random.normal(size=(len(rows), WIDTHS[k])) + lean * np.asarray(labels, np.float32)[rows][:, None]
        ).astype(np.float32)
        for lean, k in zip((0.6, 0.3, -0.4, 0.0), ("fusion", *modalities), strict=False)
    }


def to_torch(states):
    return {name: torch.from_numpy(np.asarray(values)) for name, values in states.items()}


def update(generator, rows, states, present=None):
    """One batch, given as numpy arrays."""
    present = present or {m: np.ones(len(rows), bool) for m in generator.modalities}
    generator.update(torch.tensor(rows), to_torch(states), to_torch(present))


def make_generator(labels, modalities=MODALITIES, label_range=(-3.0, 3.0), **kwargs):
    return SelfMMLabelGenerator([f"s{i}" for i in range(len(labels))], labels, modalities, label_range, **kwargs)


def everything(generator):
    """All of the state by sample id, spare rows left out."""
    state = {"epoch": generator.epoch}
    for name, rows in {"updated_in": generator.updated_in, **generator.labels}.items():
        state[name] = dict(zip(generator.ids, rows[:-1].tolist(), strict=True))
    for epoch, rows in generator.history.items():
        state[f"history.{epoch}"] = dict(zip(generator.ids, rows.tolist(), strict=True))
    for name, space in generator.spaces.items():
        state[f"{name}.sums"], state[f"{name}.counts"] = space.sums.tolist(), space.counts.tolist()
        for key in ("features", "classes"):
            state[f"{name}.{key}"] = dict(zip(generator.ids, getattr(space, key)[:-1].tolist(), strict=True))
    return state


def epoch_batches(random, samples, size):
    order = random.permutation(samples).tolist()
    return [order[start : start + size] for start in range(0, samples, size)]


def train(generator, random, labels, epochs, size=8, after_epoch=lambda epoch: None, first_epoch=1):
    """Epochs of random batches."""
    for epoch in range(first_epoch, first_epoch + epochs):
        generator.start_epoch(epoch)
        for rows in epoch_batches(random, len(labels), size):
            update(generator, rows, draw_states(random, rows, labels, generator.modalities))
        generator.record(epoch)
        after_epoch(epoch)


# Against the algorithm


@pytest.mark.parametrize("label_range", [(-1.0, 1.0), (-3.0, 3.0)], ids=["sims", "mosi"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("zero_is_positive", [True, False])
@pytest.mark.parametrize("modalities", [MODALITIES, ("text", "vision")], ids=["tav", "tv"])
def test_equals_algorithm_1(label_range, clip, zero_is_positive, modalities):
    random = np.random.default_rng([int(clip), int(zero_is_positive), len(modalities)])
    samples = 29
    labels = draw_labels(random, samples, label_range)
    lacks = {m: random.random(samples) < 0.2 for m in modalities}  # by sample, the same in every epoch
    generator = make_generator(labels, modalities, label_range, clip=clip, zero_is_positive=zero_is_positive)
    paper = Algorithm1(labels, modalities, label_range, clip, zero_is_positive)
    for epoch in range(1, 6):
        generator.start_epoch(epoch)
        for rows in epoch_batches(random, samples, 4):
            states = draw_states(random, rows, labels, modalities)
            present = {m: ~lacks[m][rows] for m in modalities}
            update(generator, rows, states, present)
            paper.step(epoch, rows, {k: list(v.astype(np.float64)) for k, v in states.items()}, present)
            for m in modalities:
                np.testing.assert_allclose(generator.labels[m][:-1].numpy(), paper.u[m], rtol=1e-9, atol=1e-9)
        if epoch == 1:
            for m in modalities:
                assert paper.u[m] == labels.tolist()
    if clip:
        assert paper.clipped > 5
    for m in modalities:
        final = np.array(paper.u[m])
        assert (final[lacks[m]] == labels[lacks[m]]).all() and lacks[m].any()
        assert np.abs(final - labels)[~lacks[m]].min() > 1e-6  # every other label did change
        if clip:
            assert final.min() >= label_range[0] and final.max() <= label_range[1]
        else:
            assert np.abs(final).max() > label_range[1]
        np.testing.assert_allclose(generator.targets(torch.arange(samples))[m].numpy(), final.astype(np.float32))


def test_repetitions_equal_algorithm_1():
    """Batches with a row twice and rows that come again in the same epoch, as when processes fill their last batch."""
    random = np.random.default_rng(8)
    labels = draw_labels(random, 17, (-3, 3))
    lacks = {m: random.random(17) < 0.2 for m in MODALITIES}
    generator = make_generator(labels)
    paper = Algorithm1(labels, MODALITIES, (-3, 3), True, False)
    for epoch in range(1, 5):
        generator.start_epoch(epoch)
        batches = epoch_batches(random, 17, 5)
        batches[-1] += batches[0][:3] + batches[-1][:1]
        batches[1] += [batches[1][0], batches[1][0]]
        for rows in batches:
            states = draw_states(random, rows, labels)
            present = {m: ~lacks[m][rows] for m in MODALITIES}
            update(generator, rows, states, present)
            paper.step(epoch, rows, {k: list(v.astype(np.float64)) for k, v in states.items()}, present)
            for m in MODALITIES:
                np.testing.assert_allclose(generator.labels[m][:-1].numpy(), paper.u[m], rtol=1e-9, atol=1e-9)


def test_zero_labels_count_where_they_are_said_to():
    random = np.random.default_rng(2)
    labels = draw_labels(random, 20, (-3, 3))
    results = []
    for zero_is_positive in (False, True):
        generator = make_generator(labels, zero_is_positive=zero_is_positive)
        train(generator, np.random.default_rng(3), labels, epochs=1)
        results.append(generator.spaces["fusion"].counts.tolist())
    above, below, zero = int((labels > 0).sum()), int((labels < 0).sum()), int((labels == 0).sum())
    assert zero == 4
    assert results == [[above, below], [above + zero, below]]


# Known numbers


def known_case(y_m, **kwargs):
    """Two samples that fix the centres at (1, 0), (-1, 0) and (0, 2), (0, -2), and a third, not yet seen."""
    generator = make_generator([1.5, -1.5, y_m], ("text",), **kwargs)
    generator.start_epoch(1)
    update(generator, [0, 1], {"fusion": [[1.0, 0.0], [-1.0, 0.0]], "text": [[0.0, 2.0], [0.0, -2.0]]})
    generator.start_epoch(2)
    return generator


def test_known_numbers():
    generator = known_case(1.2)
    state = {"fusion": [[0.5, 0.0]], "text": [[0.0, -1.0]]}
    alpha_m, known = generator.spaces["fusion"].relative_distance(torch.tensor(state["fusion"]), 1e-8)
    assert known and alpha_m.item() == pytest.approx(2.0, abs=1e-6)
    assert generator.spaces["text"].relative_distance(torch.tensor(state["text"]), 1e-8)[0].item() == pytest.approx(
        -2 / 3
    )
    update(generator, [2], state)
    assert generator.labels["text"][2].item() == pytest.approx(-0.2222222, abs=1e-6)

    # The task's weight in epoch 3, with a prediction that is one beyond the label: the loss is the weight.
    target = generator.targets(torch.tensor([2]))["text"]
    unimodal = {"text": (target.unsqueeze(1) + 1, target, torch.tensor([True]))}
    loss = weighted_multitask_loss(torch.tensor([[1.2]]), torch.tensor([1.2]), unimodal)
    assert loss.item() == pytest.approx(0.8900616, abs=1e-6)

    # Epoch 3: the first two samples move so that, with the third among them, the centres are where they were.
    generator.start_epoch(3)
    update(generator, [0, 1], {"fusion": [[1.5, 0.0], [-1.0, 0.0]], "text": [[0.0, 2.0], [0.0, -3.0]]})
    update(generator, [2], state)
    assert generator.labels["text"][2].item() == pytest.approx(-0.5777778, abs=1e-6)


@pytest.mark.parametrize(("clip", "expected"), [(True, -3.0), (False, -666.0)])
def test_known_numbers_near_the_singularity(clip, expected):
    generator = known_case(2.0, clip=clip)
    place = 0.001 / 2.001  # on the line between the centres, where alpha_m is 0.001
    update(generator, [2], {"fusion": [[place, 0.0]], "text": [[0.0, -1.0]]})
    assert generator.labels["text"][2].item() == pytest.approx(2 / 3 + 2 / 3 * expected, abs=0.01)


@pytest.mark.parametrize("y_m", [0.0, 2.0, -2.0])
def test_multimodal_state_between_the_centres(y_m):
    """alpha_m is exactly zero: the result is finite, and on the side that y_m and alpha_s say."""
    generator = known_case(y_m)
    update(generator, [2], {"fusion": [[0.0, 0.0]], "text": [[0.0, 1.0]]})  # alpha_s = 2
    value = {0.0: 1.0, 2.0: 3.0, -2.0: -3.0}[y_m]
    assert generator.labels["text"][2].item() == pytest.approx(y_m / 3 + 2 / 3 * value, abs=1e-6)


class Scripted(LabelGenerator):
    """Generates what it is told, whatever the representations are."""

    value = None

    def generate(self, states, m_labels):
        values = torch.full((len(m_labels),), self.value, dtype=torch.float64)
        return {m: (values, torch.tensor(True)) for m in self.modalities}

    def observe(self, rows, states, present):
        pass


def test_momentum_weights():
    """After n epochs, what epoch i generated has the weight 2i / (n (n + 1)), y_m being that of epoch 1."""
    random = np.random.default_rng(4)
    generated = [0.7, *random.uniform(-3, 3, size=14)]
    generator = Scripted(["a", "b"], [0.7, 0.7], ("text",), (-3, 3))
    for n in range(1, 16):
        generator.start_epoch(n)
        generator.value = generated[n - 1]
        generator.update(torch.tensor([0]), {}, {"text": torch.tensor([True])})
        expected = sum(2 * i / (n * (n + 1)) * generated[i - 1] for i in range(1, n + 1))
        assert generator.labels["text"][0].item() == pytest.approx(expected, abs=1e-12)
    assert generator.labels["text"][1].item() == 0.7


def test_clipping_precedes_momentum():
    generator = Scripted(["a"], [-1.0], ("text",), (-1, 2))
    generator.start_epoch(2)
    generator.value = 50.0
    generator.update(torch.tensor([0]), {}, {"text": torch.tensor([True])})
    assert generator.labels["text"][0].item() == pytest.approx(1.0)


# Rules


def test_first_epoch_changes_no_label():
    random = np.random.default_rng(5)
    labels = draw_labels(random, 20, (-3, 3))
    generator = make_generator(labels)
    train(generator, random, labels, epochs=1)
    for m in MODALITIES:
        assert generator.labels[m][:-1].tolist() == labels.astype(np.float64).tolist()
    train(generator, random, labels, epochs=1, first_epoch=2)
    for m in MODALITIES:
        assert (generator.labels[m][:-1].numpy() != labels).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_empty_class_leaves_labels(sign):
    random = np.random.default_rng(6)
    labels = sign * random.uniform(0.5, 2.5, size=12)
    generator = make_generator(labels)
    train(generator, random, labels, epochs=3)
    for m in MODALITIES:
        assert generator.labels[m][:-1].tolist() == labels.tolist()


def test_empty_class_in_one_modality_leaves_only_its_labels():
    """No sample has vision, and none with a negative label has audio."""
    random = np.random.default_rng(7)
    labels = draw_labels(random, 15, (-3, 3))
    generator = make_generator(labels)
    for epoch in (1, 2, 3):
        generator.start_epoch(epoch)
        for rows in epoch_batches(random, 15, 5):
            present = {"text": np.ones(5, bool), "audio": labels[rows] > 0, "vision": np.zeros(5, bool)}
            update(generator, rows, draw_states(random, rows, labels), present)
    assert generator.labels["vision"][:-1].tolist() == generator.labels["audio"][:-1].tolist() == labels.tolist()
    assert (generator.labels["text"][:-1].numpy() != labels).all()
    assert generator.spaces["vision"].counts.tolist() == [0, 0]


def test_empty_multimodal_class_leaves_labels():
    """Even where the unimodal labels have both signs."""
    generator = make_generator([1.0, 2.0, 0.5], ("text",))
    generator.labels["text"][1] = -1.0
    for epoch in (1, 2):
        generator.start_epoch(epoch)
        update(generator, [0, 1, 2], {"fusion": np.eye(3, dtype=np.float32), "text": np.eye(3, dtype=np.float32)})
    assert generator.spaces["text"].counts.tolist() == [2, 1]
    assert generator.labels["text"][:-1].tolist() == [1.0, -1.0, 0.5]


def test_row_twice_in_a_batch_counts_once_and_the_first_time():
    random = np.random.default_rng(9)
    labels = draw_labels(random, 10, (-3, 3))
    once, twice = make_generator(labels), make_generator(labels)
    for generator in (once, twice):
        train(generator, np.random.default_rng(1), labels, epochs=2)
        generator.start_epoch(3)
    rows = [4, 7, 4, 1, 7, 4]
    states = draw_states(random, rows, labels)
    present = {m: np.ones(6, bool) for m in MODALITIES} | {"audio": np.array([0, 1, 1, 1, 0, 1], bool)}
    update(twice, rows, states, present)
    first = [0, 1, 3]
    update(once, [4, 7, 1], {k: v[first] for k, v in states.items()}, {m: v[first] for m, v in present.items()})
    assert everything(once) == everything(twice)


def test_row_twice_in_an_epoch_is_updated_once():
    random = np.random.default_rng(10)
    labels = draw_labels(random, 10, (-3, 3))
    generator = make_generator(labels)
    train(generator, random, labels, epochs=2)
    generator.start_epoch(3)
    update(generator, [0, 1, 2], draw_states(random, [0, 1, 2], labels))
    after = {m: generator.labels[m][:3].tolist() for m in MODALITIES}
    again = draw_states(random, [0, 1, 2], labels)
    update(generator, [0, 1, 2], again)
    assert {m: generator.labels[m][:3].tolist() for m in MODALITIES} == after
    assert generator.spaces["fusion"].features[:3].tolist() == again["fusion"].tolist()  # the last one seen
    generator.start_epoch(4)
    update(generator, [0, 1, 2], again)
    assert all(generator.labels[m][:3].tolist() != after[m] for m in MODALITIES)


def test_ids():
    with pytest.raises(ValueError, match="different ids"):
        SelfMMLabelGenerator(["a", "b", "a"], [0.0, 1.0, 2.0], MODALITIES, (-3, 3))
    generator = SelfMMLabelGenerator(["a", "b", "c"], [0.0, 1.0, 2.0], MODALITIES, (-3, 3))
    assert generator.rows(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(ValueError, match="'elsewhere'"):
        generator.rows(["a", "elsewhere"])


def test_targets_start_at_the_multimodal_labels_in_single_precision():
    generator = SelfMMLabelGenerator(["a", "b"], [-1.0, 0.1], ("text", "vision"), (-3, 3))
    targets = generator.targets(torch.tensor([1, 0, 1]))
    assert list(targets) == ["text", "vision"]
    for values in targets.values():
        assert values.dtype == torch.float32
        assert values.tolist() == np.float32([0.1, -1.0, 0.1]).tolist()


def test_running_sums_stay_equal_to_recomputation():
    random = np.random.default_rng(11)
    labels = draw_labels(random, 60, (-3, 3))
    generator = make_generator(labels)
    classes_before, changed = None, 0
    for step in range(1000):
        if step % 5 == 0:
            generator.start_epoch(step // 5 + 1, resumed=True)  # without making the sums anew
            generator.history.clear()
        rows = random.choice(60, size=16, replace=False).tolist()
        present = {m: random.random(16) < 0.9 for m in MODALITIES}
        update(generator, rows, draw_states(random, rows, labels), present)
        classes = generator.spaces["audio"].classes.tolist()
        changed += classes_before is not None and sum(map(int.__ne__, classes, classes_before)) > 0
        classes_before = classes
    assert changed > 100
    for name, space in generator.spaces.items():
        own = generator.m_labels if name == "fusion" else generator.labels[name]
        features, classes = space.features[:-1].double().numpy(), space.classes[:-1].numpy()
        if name == "fusion":
            assert classes.tolist() == np.sign(own[:-1].numpy()).tolist()
        for index, sign in enumerate((1, -1)):
            np.testing.assert_allclose(space.sums[index].numpy(), features[classes == sign].sum(axis=0), atol=1e-9)
            assert space.counts[index].item() == (classes == sign).sum()


def test_sums_are_made_anew_where_an_epoch_begins():
    random = np.random.default_rng(21)
    labels = draw_labels(random, 20, (-3, 3))
    generator = make_generator(labels)
    train(generator, random, labels, epochs=2)
    before = {name: (space.sums.clone(), space.counts.clone()) for name, space in generator.spaces.items()}
    for space in generator.spaces.values():
        space.sums += 1e-3  # as if rounding had added up
        space.counts += 1
    generator.start_epoch(3, resumed=True)
    assert all(not torch.allclose(generator.spaces[name].sums, sums) for name, (sums, _) in before.items())
    generator.start_epoch(3)
    for name, (sums, counts) in before.items():
        torch.testing.assert_close(generator.spaces[name].sums, sums, rtol=0, atol=1e-9)
        assert torch.equal(generator.spaces[name].counts, counts)


def test_update_reads_and_writes_only_its_rows():
    random = np.random.default_rng(12)
    labels = draw_labels(random, 40, (-3, 3))
    clean, poisoned = make_generator(labels), make_generator(labels)
    for generator in (clean, poisoned):
        train(generator, np.random.default_rng(0), labels, epochs=2)
        generator.start_epoch(3)
    rows = [3, 31, 8, 14]
    others = [row for row in range(40) if row not in rows]
    for space in poisoned.spaces.values():
        space.features[others] = math.nan  # whatever touched them would carry it on
    before = {m: clean.labels[m].clone() for m in MODALITIES}
    stored = {name: space.features.clone() for name, space in clean.spaces.items()}
    states = draw_states(random, rows, labels)
    for generator in (clean, poisoned):
        update(generator, rows, states)
    for m in MODALITIES:
        assert torch.equal(clean.labels[m], poisoned.labels[m])
        assert torch.equal(clean.labels[m][others], before[m][others])
        assert (clean.labels[m][rows] != before[m][rows]).all()
    for name, space in clean.spaces.items():
        assert torch.equal(space.features[others], stored[name][others])
        assert torch.equal(space.features[rows], torch.from_numpy(states[name]))
        assert torch.equal(space.sums, poisoned.spaces[name].sums) and space.sums.isfinite().all()


def test_generator_without_unimodal_tasks(tmp_path):
    """`tasks: [M]`, the first line of the paper's table 4, with label generation left on."""
    generator = make_generator([1.0, -1.0, 0.5], modalities=())
    for epoch in (1, 2):
        generator.start_epoch(epoch)
        update(generator, [0, 1, 2], {"fusion": np.ones((3, 2), np.float32)})
        generator.record(epoch)
    table = generator.history_table()
    assert table.num_rows == 6 and all(table[m].null_count == 6 for m in MODALITIES)
    generator.save(tmp_path / "state")
    resumed = make_generator([1.0, -1.0, 0.5], modalities=())
    resumed.load(tmp_path / "state")
    assert everything(resumed) == everything(generator)


# State


def test_history_table():
    random = np.random.default_rng(13)
    labels = draw_labels(random, 5, (-3, 3))
    generator = make_generator(labels, ("text", "vision"))
    kept = {}
    train(
        generator,
        random,
        labels,
        epochs=3,
        size=2,
        after_epoch=lambda n: kept.update({n: {m: generator.labels[m][:-1].tolist() for m in ("text", "vision")}}),
    )
    table = generator.history_table()
    assert table.column_names == ["id", "epoch", "text", "audio", "vision"]
    assert table.schema.types == [pa.string(), pa.int32(), pa.float32(), pa.float32(), pa.float32()]
    assert table["id"].to_pylist() == [f"s{i}" for i in range(5)] * 3
    assert table["epoch"].to_pylist() == list(np.repeat([1, 2, 3], 5))
    assert table["audio"].null_count == 15 and table["text"].null_count == table["vision"].null_count == 0
    for m in ("text", "vision"):
        expected = [value for epoch in (1, 2, 3) for value in np.float32(kept[epoch][m])]
        assert table[m].to_pylist() == expected
    assert make_generator(labels).history_table().num_rows == 0


@pytest.mark.parametrize("batches_into_epoch_3", [0, 1, 2])
def test_save_and_load_keep_everything(tmp_path, batches_into_epoch_3):
    random = np.random.default_rng(14)
    labels = draw_labels(random, 14, (-3, 3))
    unbroken = make_generator(labels)
    train(unbroken, random, labels, epochs=2, size=5)
    batches = epoch_batches(random, 14, 5)
    states = [draw_states(random, rows, labels) for rows in batches]
    unbroken.start_epoch(3)
    for rows, state in itertools.islice(zip(batches, states, strict=True), batches_into_epoch_3):
        update(unbroken, rows, state)
    unbroken.save(tmp_path / "state")
    resumed = make_generator(labels)
    resumed.load(tmp_path / "state")
    assert everything(resumed) == everything(unbroken)

    resumed.start_epoch(3, resumed=True)
    for rows, state in list(zip(batches, states, strict=True))[batches_into_epoch_3:]:
        for generator in (unbroken, resumed):
            update(generator, rows, state)
    train(unbroken, np.random.default_rng(15), labels, epochs=2, first_epoch=4)
    train(resumed, np.random.default_rng(15), labels, epochs=2, first_epoch=4)
    assert everything(resumed) == everything(unbroken)
    assert sorted(resumed.history) == [1, 2, 3, 4, 5]


def test_load_into_another_order_of_the_same_samples(tmp_path):
    random = np.random.default_rng(16)
    labels = draw_labels(random, 12, (-3, 3))
    first = make_generator(labels)
    train(first, random, labels, epochs=2, size=5)
    first.start_epoch(3)
    update(first, [2, 9, 4], draw_states(random, [2, 9, 4], labels))
    first.save(tmp_path / "state")
    order = random.permutation(12)
    second = SelfMMLabelGenerator([first.ids[i] for i in order], labels[order], MODALITIES, (-3, 3))
    second.load(tmp_path / "state")
    assert everything(first) == everything(second)
    first.start_epoch(3, resumed=True)
    second.start_epoch(3, resumed=True)
    for rows in epoch_batches(random, 12, 5):
        states = draw_states(random, rows, labels)
        ids = [first.ids[row] for row in rows]
        update(first, first.rows(ids).tolist(), states)
        update(second, second.rows(ids).tolist(), states)
    assert second.rows([first.ids[0]]).item() != 0
    assert everything(first) == everything(second)
    assert first.labels["text"][:-1].tolist() != labels.tolist()


@pytest.mark.parametrize(
    ("ids", "modalities"),
    [
        (["s0", "s1", "s3"], MODALITIES),
        (["s0", "s1"], MODALITIES),
        (["s0", "s1", "s2", "s3"], MODALITIES),
        (["s0", "s1", "s2"], ("text", "audio")),
    ],
    ids=["another sample", "fewer samples", "more samples", "other modalities"],
)
def test_load_refuses_another_run(tmp_path, ids, modalities):
    make_generator([1.0, -1.0, 0.5]).save(tmp_path / "state")
    other = SelfMMLabelGenerator(ids, np.zeros(len(ids)), modalities, (-3, 3))
    with pytest.raises(ValueError, match="same data and tasks"):
        other.load(tmp_path / "state")
    assert other.epoch == 0 and not other.history


def test_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    generator = make_generator([1.0, -1.0])
    generator.save(tmp_path / "state")
    before = (tmp_path / "state").read_bytes()

    def fail(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("training.label_generation.save_file", fail)
    generator.start_epoch(1)
    with pytest.raises(OSError, match="disk full"):
        generator.save(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_bytes() == before


# The callback


def stage(folder, epoch=0.0, global_step=0, resume=None, main=True):
    """What the trainer passes to a callback."""
    args = SimpleNamespace(output_dir=str(folder), resume_from_checkpoint=resume)
    state = SimpleNamespace(epoch=epoch, global_step=global_step, is_world_process_zero=main)
    return args, state, TrainerControl()


def run_epoch(callback, random, labels, folder, epoch, size=5, **state):
    """An epoch as the trainer goes through it."""
    callback.on_epoch_begin(*stage(folder, epoch=epoch - 1.0, **state))
    batches = epoch_batches(random, len(labels), size)
    for rows in batches:
        update(callback.generator, rows, draw_states(random, rows, labels))
    callback.on_epoch_end(*stage(folder, epoch=float(epoch), **state))


def test_callback_counts_epochs_from_one_and_knows_resumed_ones(tmp_path):
    calls = []
    generator = SimpleNamespace(start_epoch=lambda epoch, resumed=False: calls.append((epoch, resumed)))
    callback = LabelGenerationCallback(generator, log=None)
    for done in (None, 0, 0.25, 1.0, 1.9999, 2.0, 7.5):
        callback.on_epoch_begin(*stage(tmp_path, epoch=done))
    assert calls == [(1, False), (1, False), (1, True), (2, False), (2, True), (3, False), (8, True)]


def test_callback_writes_the_whole_history_each_epoch(tmp_path):
    random = np.random.default_rng(17)
    labels = draw_labels(random, 9, (-3, 3))
    logged = []
    callback = LabelGenerationCallback(make_generator(labels), logged.append)
    for epoch in (1, 2, 3):
        run_epoch(callback, random, labels, tmp_path, epoch)
        table = pq.read_table(tmp_path / HISTORY_FILE)
        assert table.equals(callback.generator.history_table())
        assert table["epoch"].to_pylist() == list(np.repeat(range(1, epoch + 1), 9))
        current = callback.generator.labels["audio"][:-1].float().tolist()
        assert table["audio"].to_pylist()[-9:] == current
    assert [path.name for path in tmp_path.iterdir()] == [HISTORY_FILE]
    assert len(logged) == 3


def test_only_the_main_process_writes(tmp_path):
    random = np.random.default_rng(18)
    labels = draw_labels(random, 9, (-3, 3))
    callback = LabelGenerationCallback(make_generator(labels), lambda logs: None)
    run_epoch(callback, random, labels, tmp_path, 1, main=False)
    callback.on_save(*stage(tmp_path, epoch=1.0, global_step=2, main=False))
    assert list(tmp_path.iterdir()) == []
    assert list(callback.generator.history) == [1]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("batches_done", [1, 2])
def test_callback_resumes_within_an_epoch(tmp_path, named, batches_done):
    """From a checkpoint in the middle of an epoch, and from one at its last step, before its end was recorded."""
    random = np.random.default_rng(19)
    labels = draw_labels(random, 10, (-3, 3))
    unbroken = LabelGenerationCallback(make_generator(labels), lambda logs: None)
    unbroken.on_train_begin(*stage(tmp_path))
    run_epoch(unbroken, random, labels, tmp_path, 1)
    unbroken.on_epoch_begin(*stage(tmp_path, epoch=1.0, global_step=2))
    batches = [(rows, draw_states(random, rows, labels)) for rows in epoch_batches(random, 10, 5)]
    for rows, states in batches[:batches_done]:
        update(unbroken.generator, rows, states)
    step, done = 2 + batches_done, 1 + batches_done / 2
    unbroken.on_save(*stage(tmp_path, epoch=done, global_step=step))
    checkpoint = tmp_path / f"checkpoint-{step}"
    assert [path.name for path in checkpoint.iterdir()] == [STATE_FILE]

    resumed = LabelGenerationCallback(make_generator(labels), lambda logs: None)
    resume = str(checkpoint) if named else True
    folder = tmp_path / "elsewhere" if named else tmp_path
    resumed.on_train_begin(*stage(folder, epoch=done, global_step=step, resume=resume))
    assert everything(resumed.generator) == everything(unbroken.generator)
    resumed.on_epoch_begin(*stage(folder, epoch=done, global_step=step))
    for rows, states in batches[batches_done:]:
        for callback in (resumed, unbroken):
            update(callback.generator, rows, states)
    unbroken.on_epoch_end(*stage(tmp_path, epoch=2.0, global_step=4))
    if batches_done < 2:
        assert resumed.generator.epoch == 2
        resumed.on_epoch_end(*stage(folder, epoch=2.0, global_step=4))
        assert everything(resumed.generator) == everything(unbroken.generator)
        unbroken.on_epoch_begin(*stage(tmp_path, epoch=2.0, global_step=4))
        resumed.on_epoch_begin(*stage(folder, epoch=2.0, global_step=4))
    else:
        assert resumed.generator.epoch == 3
        unbroken.on_epoch_begin(*stage(tmp_path, epoch=2.0, global_step=4))
    assert everything(resumed.generator) == everything(unbroken.generator)


def test_scores_against_true_labels(tmp_path):
    """Mean shift, correlation with the true labels, and that of the shifts with the true ones."""
    random = np.random.default_rng(20)
    labels = draw_labels(random, 30, (-3, 3))
    true = {"text": random.uniform(-3, 3, size=30), "vision": np.full(30, 0.5)}
    logged = []
    callback = LabelGenerationCallback(make_generator(labels), logged.append, true)
    for epoch in (1, 2, 3):
        run_epoch(callback, random, labels, tmp_path, epoch)
    assert [logs[f"{m}_label_shift"] for logs in logged[:1] for m in MODALITIES] == [0.0, 0.0, 0.0]
    assert math.isnan(logged[0]["text_label_shift_corr"])  # nothing generated yet
    last, y_m = logged[-1], labels.astype(np.float64)
    for m in MODALITIES:
        generated = callback.generator.labels[m][:-1].numpy()
        assert last[f"{m}_label_shift"] == pytest.approx(sum(abs(generated - y_m)) / 30)
        assert last[f"{m}_label_shift"] > 0.1
    generated = callback.generator.labels["text"][:-1].numpy()
    for name, a, b in (
        ("text_label_corr", generated, true["text"]),
        ("text_label_shift_corr", generated - y_m, true["text"] - y_m),
    ):
        a, b = a - sum(a) / 30, b - sum(b) / 30
        assert last[name] == pytest.approx(sum(a * b) / math.sqrt(sum(a * a) * sum(b * b)))
    assert math.isnan(last["vision_label_corr"])  # one true value only
    assert not any(name.startswith("audio") and "corr" in name for name in last)

"""What all strategies share: rows, momentum, history, the state that is saved. Most tests run with each strategy."""

import itertools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from datasets_scripts import MODALITIES
from training.label_generation import LABEL_GENERATORS, LabelGenerator

# Momentum and clipping


class Scripted(LabelGenerator):
    """Generates what it is told, whatever the representations are."""

    value = None

    kinds = {"fusion": "fusion"}

    def generate(self, states, m_labels, centres):
        values = torch.full((len(m_labels), len(self.modalities)), self.value, dtype=torch.float64)
        return values, torch.tensor(True)

    def members(self, rows, labels, counted):
        return torch.zeros(len(rows), 2)


def test_momentum_weights():
    """After n epochs, what epoch i generated has the weight 2i / (n (n + 1)), y_m being that of epoch 1."""
    random = np.random.default_rng(4)
    generated = [0.7, *random.uniform(-3, 3, size=14)]
    generator = Scripted(["a", "b"], [0.7, 0.7], ("text",), (-3, 3))
    for n in range(1, 16):
        generator.start_epoch(n)
        generator.value = generated[n - 1]
        generator.update(torch.tensor([0]), {"fusion": torch.zeros(1, 2)}, {"text": torch.tensor([True])})
        expected = sum(2 * i / (n * (n + 1)) * generated[i - 1] for i in range(1, n + 1))
        assert generator.labels["text"][0].item() == pytest.approx(expected, abs=1e-12)
    assert generator.labels["text"][1].item() == 0.7


def test_clipping_precedes_momentum():
    generator = Scripted(["a"], [-1.0], ("text",), (-1, 2))
    generator.start_epoch(2)
    generator.value = 50.0
    generator.update(torch.tensor([0]), {"fusion": torch.zeros(1, 2)}, {"text": torch.tensor([True])})
    assert generator.labels["text"][0].item() == pytest.approx(1.0)


# Rules


def test_first_epoch_changes_no_label(simulate, strategy):
    run = simulate(strategy, seed=5)
    run.train(1)
    for m in MODALITIES:
        assert run.generator.labels[m][:-1].tolist() == run.labels.astype(np.float64).tolist()
    run.train(1, first_epoch=2)
    for m in MODALITIES:
        assert (run.generator.labels[m][:-1].numpy() != run.labels).all()


@pytest.mark.parametrize("zero_is_positive", [False, True])
def test_zero_labels_count_where_they_are_said_to(simulate, strategy, zero_is_positive):
    run = simulate(strategy, seed=2, zero_is_positive=zero_is_positive)
    run.train(1)
    above, below, zero = (int(mask.sum()) for mask in (run.labels > 0, run.labels < 0, run.labels == 0))
    assert zero == 4
    assert run.generator.spaces["fusion"].counts.tolist() == [above + (zero if zero_is_positive else 0), below]


def test_row_twice_in_a_batch_counts_once_and_the_first_time(simulate, everything, strategy):
    run = simulate(strategy, seed=9, samples=10)
    once, twice = run.twin(), run.twin()
    run.train(2, generators=[once, twice])
    once.start_epoch(3)
    twice.start_epoch(3)
    rows = [4, 7, 4, 1, 7, 4]
    states = run.states(rows)
    present = {m: np.ones(6, bool) for m in MODALITIES} | {"audio": np.array([0, 1, 1, 1, 0, 1], bool)}
    run.update(rows, states, present, [twice])
    first = [0, 1, 3]
    states, present = ({k: v[first] for k, v in values.items()} for values in (states, present))
    run.update([4, 7, 1], states, present, [once])
    assert everything(once) == everything(twice)


def test_row_twice_in_an_epoch_is_updated_once(simulate, strategy):
    run = simulate(strategy, seed=10, samples=10)
    generator = run.generator
    run.train(2)
    generator.start_epoch(3)
    run.update([0, 1, 2])
    after = {m: generator.labels[m][:3].tolist() for m in MODALITIES}
    again = run.states([0, 1, 2])
    run.update([0, 1, 2], again)
    assert {m: generator.labels[m][:3].tolist() for m in MODALITIES} == after
    assert generator.spaces["fusion"].features[:3].tolist() == again["fusion"].tolist()  # the last one seen
    generator.start_epoch(4)
    run.update([0, 1, 2], again)
    assert all(generator.labels[m][:3].tolist() != after[m] for m in MODALITIES)


def test_ids(strategy):
    make = LABEL_GENERATORS[strategy]
    with pytest.raises(ValueError, match="different ids"):
        make(["a", "b", "a"], [0.0, 1.0, 2.0], MODALITIES, (-3, 3))
    generator = make(["a", "b", "c"], [0.0, 1.0, 2.0], MODALITIES, (-3, 3))
    assert generator.rows(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(ValueError, match="'elsewhere'"):
        generator.rows(["a", "elsewhere"])


def test_targets_start_at_the_multimodal_labels_in_single_precision(strategy):
    generator = LABEL_GENERATORS[strategy](["a", "b"], [-1.0, 0.1], ("text", "vision"), (-3, 3))
    targets = generator.targets(torch.tensor([1, 0, 1]))
    assert list(targets) == ["text", "vision"]
    for values in targets.values():
        assert values.dtype == torch.float32
        assert values.tolist() == np.float32([0.1, -1.0, 0.1]).tolist()


def test_running_sums_stay_equal_to_recomputation(simulate, strategy):
    run = simulate(strategy, seed=11, samples=60)
    generator = run.generator
    classes_before, changed = None, 0
    for step in range(600):
        if step % 5 == 0:
            generator.start_epoch(step // 5 + 1, resumed=True)  # without making the sums anew
            generator.history.clear()
        rows = run.random.choice(60, size=16, replace=False).tolist()
        run.update(rows, present={m: run.random.random(16) < 0.9 for m in MODALITIES})
        if strategy == "self_mm":  # whose classes are those of the generated labels
            classes = generator.spaces["audio"].classes.tolist()
            changed += classes_before is not None and sum(map(int.__ne__, classes, classes_before)) > 0
            classes_before = classes
    assert strategy != "self_mm" or changed > 60
    assert generator.spaces["fusion"].classes[:-1].tolist() == np.sign(run.labels).tolist()
    for space in generator.spaces.values():
        features, classes = space.features[:-1].double().numpy(), space.classes[:-1].numpy()
        for index, sign in enumerate((1, -1)):
            np.testing.assert_allclose(space.sums[index].numpy(), features[classes == sign].sum(axis=0), atol=1e-9)
            assert space.counts[index].item() == (classes == sign).sum() > 0


def test_sums_are_made_anew_where_an_epoch_begins(simulate, strategy):
    run = simulate(strategy, seed=21)
    run.train(2)
    spaces = run.generator.spaces
    before = {name: (space.sums.clone(), space.counts.clone()) for name, space in spaces.items()}
    for space in spaces.values():
        space.sums += 1e-3  # as if rounding had added up
        space.counts += 1
    run.generator.start_epoch(3, resumed=True)
    assert all(not torch.allclose(spaces[name].sums, sums) for name, (sums, _) in before.items())
    run.generator.start_epoch(3)
    for name, (sums, counts) in before.items():
        torch.testing.assert_close(spaces[name].sums, sums, rtol=0, atol=1e-9)
        assert torch.equal(spaces[name].counts, counts)


def test_update_reads_and_writes_only_its_rows(simulate, strategy):
    run = simulate(strategy, seed=12, samples=40)
    clean, poisoned = run.generator, run.twin()
    run.train(2, generators=[clean, poisoned])
    for generator in (clean, poisoned):
        generator.start_epoch(3)
    rows = [3, 31, 8, 14]
    others = [row for row in range(40) if row not in rows]
    for space in poisoned.spaces.values():
        space.features[others] = math.nan  # whatever touched them would carry it on
    before = {m: clean.labels[m].clone() for m in MODALITIES}
    stored = {name: space.features.clone() for name, space in clean.spaces.items()}
    states = run.states(rows)
    run.update(rows, states, generators=[clean, poisoned])
    for m in MODALITIES:
        assert torch.equal(clean.labels[m], poisoned.labels[m])
        assert torch.equal(clean.labels[m][others], before[m][others])
        assert (clean.labels[m][rows] != before[m][rows]).all()
    for name, space in clean.spaces.items():
        assert torch.equal(space.features[others], stored[name][others])
        assert torch.equal(space.features[rows], torch.from_numpy(states.get(name, states["fusion"])))
        assert torch.equal(space.sums, poisoned.spaces[name].sums) and space.sums.isfinite().all()


def test_generator_without_unimodal_tasks(simulate, everything, strategy, tmp_path):
    """`tasks: [M]`, the first line of Self-MM's table 4, with label generation left on."""
    run = simulate(strategy, seed=0, labels=[1.0, -1.0, 0.5], modalities=())
    generator = run.generator
    run.train(2)
    table = generator.history_table()
    assert table.num_rows == 6 and all(table[m].null_count == 6 for m in MODALITIES)
    generator.save(tmp_path / "state")
    resumed = run.twin()
    resumed.load(tmp_path / "state")
    assert everything(resumed) == everything(generator)


# Widths


def test_one_space_needs_states_of_one_width():
    sizes = {"fusion": 16, "text": 8, "vision": 16}
    LABEL_GENERATORS["self_mm"].check_states(sizes)  # compares within each task's space
    with pytest.raises(ValueError) as caught:
        LABEL_GENERATORS["sugrm"].check_states(sizes)
    assert "fusion 16, text 8, vision 16" in str(caught.value)
    assert "model.fusion_size, model.text_size, model.vision_size" in str(caught.value)
    LABEL_GENERATORS["sugrm"].check_states(dict.fromkeys(sizes, 16))
    LABEL_GENERATORS["sugrm"].check_states({"fusion": 16})


# State


def test_history_table(simulate, strategy):
    run = simulate(strategy, seed=13, samples=5, modalities=("text", "vision"))
    generator, kept = run.generator, {}
    for epoch in (1, 2, 3):
        run.train(1, size=2, first_epoch=epoch)
        kept[epoch] = {m: generator.labels[m][:-1].tolist() for m in ("text", "vision")}
    table = generator.history_table()
    assert table.column_names == ["id", "epoch", "text", "audio", "vision"]
    assert table.schema.types == [pa.string(), pa.int32(), pa.float32(), pa.float32(), pa.float32()]
    assert table["id"].to_pylist() == [f"s{i}" for i in range(5)] * 3
    assert table["epoch"].to_pylist() == list(np.repeat([1, 2, 3], 5))
    assert table["audio"].null_count == 15 and table["text"].null_count == table["vision"].null_count == 0
    for m in ("text", "vision"):
        expected = [value for epoch in (1, 2, 3) for value in np.float32(kept[epoch][m])]
        assert table[m].to_pylist() == expected
    assert run.twin().history_table().num_rows == 0


@pytest.mark.parametrize("batches_into_epoch_3", [0, 1, 2])
def test_save_and_load_keep_everything(simulate, everything, strategy, tmp_path, batches_into_epoch_3):
    run = simulate(strategy, seed=14, samples=14)
    unbroken = run.generator
    run.train(2, size=5)
    batches = [(rows, run.states(rows)) for rows in run.batches(5)]
    unbroken.start_epoch(3)
    for rows, states in itertools.islice(batches, batches_into_epoch_3):
        run.update(rows, states)
    unbroken.save(tmp_path / "state")
    resumed = run.twin()
    resumed.load(tmp_path / "state")
    assert everything(resumed) == everything(unbroken)

    resumed.start_epoch(3, resumed=True)
    for rows, states in batches[batches_into_epoch_3:]:
        run.update(rows, states, generators=[unbroken, resumed])
    run.train(2, first_epoch=4, generators=[unbroken, resumed])
    assert everything(resumed) == everything(unbroken)
    assert sorted(resumed.history) == [1, 2, 3, 4, 5]


def test_load_into_another_order_of_the_same_samples(simulate, everything, strategy, tmp_path):
    run = simulate(strategy, seed=16, samples=12)
    first = run.generator
    run.train(2, size=5)
    first.start_epoch(3)
    run.update([2, 9, 4])
    first.save(tmp_path / "state")
    second = run.twin(order=run.random.permutation(12))
    second.load(tmp_path / "state")
    assert everything(first) == everything(second)
    first.start_epoch(3, resumed=True)
    second.start_epoch(3, resumed=True)
    for rows in run.batches(5):
        states = run.states(rows)
        ids = [first.ids[row] for row in rows]
        for generator in (first, second):
            run.update(generator.rows(ids).tolist(), states, generators=[generator])
    assert second.rows([first.ids[0]]).item() != 0
    assert everything(first) == everything(second)
    assert first.labels["text"][:-1].tolist() != run.labels.tolist()


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
def test_load_refuses_another_run(simulate, strategy, tmp_path, ids, modalities):
    simulate(strategy, seed=0, labels=[1.0, -1.0, 0.5]).generator.save(tmp_path / "state")
    other = LABEL_GENERATORS[strategy](ids, np.zeros(len(ids)), modalities, (-3, 3))
    with pytest.raises(ValueError, match="same data and tasks"):
        other.load(tmp_path / "state")
    assert other.epoch == 0 and not other.history


def test_save_is_whole_or_not_at_all(simulate, strategy, tmp_path, monkeypatch):
    generator = simulate(strategy, seed=0, labels=[1.0, -1.0]).generator
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

"""Self-MM's label generation, against a plain implementation of the paper's algorithm and against known numbers."""

import math

import numpy as np
import pytest
import torch

from datasets_scripts import MODALITIES
from modeling.modeling_multitask import weighted_multitask_loss


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


def batch_in_both(run, paper, epoch, rows, lacks):
    """One batch into the generator and the plain implementation, which must then agree."""
    states = run.states(rows)
    present = {m: ~lacks[m][rows] for m in run.modalities}
    run.update(rows, states, present)
    paper.step(epoch, rows, {k: list(v.astype(np.float64)) for k, v in states.items()}, present)
    for m in run.modalities:
        np.testing.assert_allclose(run.generator.labels[m][:-1].numpy(), paper.u[m], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("label_range", [(-1.0, 1.0), (-3.0, 3.0)], ids=["sims", "mosi"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("zero_is_positive", [True, False])
@pytest.mark.parametrize("modalities", [MODALITIES, ("text", "vision")], ids=["tav", "tv"])
def test_equals_algorithm_1(simulate, label_range, clip, zero_is_positive, modalities):
    switches = {"clip": clip, "zero_is_positive": zero_is_positive}
    seed = [int(clip), int(zero_is_positive), len(modalities)]
    run = simulate("self_mm", seed, 29, label_range, modalities, **switches)
    lacks = {m: run.random.random(29) < 0.2 for m in modalities}  # by sample, the same in every epoch
    paper = Algorithm1(run.labels, modalities, label_range, clip, zero_is_positive)
    for epoch in range(1, 6):
        run.generator.start_epoch(epoch)
        for rows in run.batches(4):
            batch_in_both(run, paper, epoch, rows, lacks)
        if epoch == 1:
            for m in modalities:
                assert paper.u[m] == run.labels.tolist()
    if clip:
        assert paper.clipped > 5
    for m in modalities:
        final = np.array(paper.u[m])
        assert (final[lacks[m]] == run.labels[lacks[m]]).all() and lacks[m].any()
        assert np.abs(final - run.labels)[~lacks[m]].min() > 1e-6  # every other label did change
        if clip:
            assert final.min() >= label_range[0] and final.max() <= label_range[1]
        else:
            assert np.abs(final).max() > label_range[1]
        np.testing.assert_allclose(run.generator.targets(torch.arange(29))[m].numpy(), final.astype(np.float32))


@pytest.mark.parametrize("zero_is_positive", [True, False])
def test_repetitions_equal_algorithm_1(simulate, zero_is_positive):
    """Batches with a row twice and rows that come again in the same epoch, as when processes fill their last batch."""
    run = simulate("self_mm", seed=8, samples=17, zero_is_positive=zero_is_positive)
    lacks = {m: run.random.random(17) < 0.2 for m in MODALITIES}
    paper = Algorithm1(run.labels, MODALITIES, (-3, 3), True, zero_is_positive)
    for epoch in range(1, 5):
        run.generator.start_epoch(epoch)
        batches = run.batches(5)
        batches[-1] += batches[0][:3] + batches[-1][:1]
        batches[1] += [batches[1][0], batches[1][0]]
        for rows in batches:
            batch_in_both(run, paper, epoch, rows, lacks)


# Known numbers


@pytest.fixture
def known_case(simulate):
    """Two samples that fix the centres at (1, 0), (-1, 0) and (0, 2), (0, -2), and a third, not yet seen."""

    def make(y_m, **switches):
        run = simulate("self_mm", seed=0, labels=[1.5, -1.5, y_m], modalities=("text",), **switches)
        run.generator.start_epoch(1)
        run.update([0, 1], {"fusion": [[1.0, 0.0], [-1.0, 0.0]], "text": [[0.0, 2.0], [0.0, -2.0]]})
        run.generator.start_epoch(2)
        return run

    return make


def test_known_numbers(known_case):
    run = known_case(1.2)
    generator = run.generator
    state = {"fusion": [[0.5, 0.0]], "text": [[0.0, -1.0]]}
    alpha = generator.centres.relative_distance(torch.tensor([state["fusion"][0] + state["text"][0]]), 1e-8)
    assert generator.centres.known.all() and alpha[0].tolist() == pytest.approx([2.0, -2 / 3], abs=1e-6)
    run.update([2], state)
    assert generator.labels["text"][2].item() == pytest.approx(-0.2222222, abs=1e-6)

    # The task's weight in epoch 3, with a prediction that is one beyond the label: the loss is the weight.
    target = generator.targets(torch.tensor([2]))["text"]
    unimodal = {"text": (target.unsqueeze(1) + 1, target, torch.tensor([True]))}
    loss = weighted_multitask_loss(torch.tensor([[1.2]]), torch.tensor([1.2]), unimodal)
    assert loss.item() == pytest.approx(0.8900616, abs=1e-6)

    # Epoch 3: the first two samples move so that, with the third among them, the centres are where they were.
    generator.start_epoch(3)
    run.update([0, 1], {"fusion": [[1.5, 0.0], [-1.0, 0.0]], "text": [[0.0, 2.0], [0.0, -3.0]]})
    run.update([2], state)
    assert generator.labels["text"][2].item() == pytest.approx(-0.5777778, abs=1e-6)


@pytest.mark.parametrize(("clip", "expected"), [(True, -3.0), (False, -666.0)])
def test_known_numbers_near_the_singularity(known_case, clip, expected):
    run = known_case(2.0, clip=clip)
    place = 0.001 / 2.001  # on the line between the centres, where alpha_m is 0.001
    run.update([2], {"fusion": [[place, 0.0]], "text": [[0.0, -1.0]]})
    assert run.generator.labels["text"][2].item() == pytest.approx(2 / 3 + 2 / 3 * expected, abs=0.01)


@pytest.mark.parametrize("y_m", [0.0, 2.0, -2.0])
def test_multimodal_state_between_the_centres(known_case, y_m):
    """alpha_m is exactly zero: the result is finite, and on the side that y_m and alpha_s say."""
    run = known_case(y_m)
    run.update([2], {"fusion": [[0.0, 0.0]], "text": [[0.0, 1.0]]})  # alpha_s = 2
    value = {0.0: 1.0, 2.0: 3.0, -2.0: -3.0}[y_m]
    assert run.generator.labels["text"][2].item() == pytest.approx(y_m / 3 + 2 / 3 * value, abs=1e-6)


# Empty classes


@pytest.mark.parametrize("sign", [1, -1])
def test_empty_class_leaves_labels(simulate, sign):
    labels = sign * np.random.default_rng(6).uniform(0.5, 2.5, size=12)
    run = simulate("self_mm", seed=6, labels=labels)
    run.train(3)
    for m in MODALITIES:
        assert run.generator.labels[m][:-1].tolist() == labels.tolist()


def test_empty_class_in_one_modality_leaves_only_its_labels(simulate):
    """No sample has vision, and none with a negative label has audio."""
    run = simulate("self_mm", seed=7, samples=15)
    generator = run.generator
    for epoch in (1, 2, 3):
        generator.start_epoch(epoch)
        for rows in run.batches(5):
            present = {"text": np.ones(5, bool), "audio": run.labels[rows] > 0, "vision": np.zeros(5, bool)}
            run.update(rows, present=present)
    assert generator.labels["vision"][:-1].tolist() == generator.labels["audio"][:-1].tolist() == run.labels.tolist()
    assert (generator.labels["text"][:-1].numpy() != run.labels).all()
    assert generator.spaces["vision"].counts.tolist() == [0, 0]


def test_empty_multimodal_class_leaves_labels(simulate):
    """Even where the unimodal labels have both signs."""
    run = simulate("self_mm", seed=0, labels=[1.0, 2.0, 0.5], modalities=("text",))
    generator = run.generator
    generator.labels["text"][1] = -1.0
    for epoch in (1, 2):
        generator.start_epoch(epoch)
        run.update([0, 1, 2], {"fusion": np.eye(3, dtype=np.float32), "text": np.eye(3, dtype=np.float32)})
    assert generator.spaces["text"].counts.tolist() == [2, 1]
    assert generator.labels["text"][:-1].tolist() == [1.0, -1.0, 0.5]


def test_notes_are_empty(simulate):
    assert simulate("self_mm", seed=0).generator.notes == []

"""Label generation without a model: what training would feed a generator, made from its labels."""

import numpy as np
import pytest
import torch

from datasets_scripts import MODALITIES
from training.label_generation import LABEL_GENERATORS

SPACES = ("fusion", *MODALITIES)
WIDTHS = {"self_mm": dict(zip(SPACES, (7, 5, 1, 3), strict=True)), "sugrm": dict.fromkeys(SPACES, 5)}


class Simulation:
    """
    A training split, its generator, batches in random order, and representations in float32 that lean with the label,
    more in some spaces than in others. `fixed` gives the labels of some rows.
    """

    def __init__(
        self,
        strategy,
        seed,
        samples=20,
        label_range=(-3.0, 3.0),
        modalities=MODALITIES,
        labels=None,
        fixed=None,
        **switches,
    ):
        self.random = np.random.default_rng(seed)
        self.strategy, self.modalities, self.label_range, self.switches = strategy, modalities, label_range, switches
        self.labels = self.draw_labels(samples) if labels is None else np.array(labels)
        for row, label in (fixed or {}).items():
            self.labels[row] = label
        self.generator = self.twin()

    def draw_labels(self, samples):
        """Labels over the whole range, a fifth of them exactly zero."""
        labels = self.random.uniform(*self.label_range, size=samples).astype(np.float32)
        labels[self.random.permutation(samples)[: samples // 5]] = 0.0
        return labels

    def twin(self, order=None):
        """Another generator for the same split, from its beginning; with `order`, the split's rows are so ordered."""
        order = range(len(self.labels)) if order is None else order
        ids, labels = [f"s{i}" for i in order], self.labels[list(order)]
        return LABEL_GENERATORS[self.strategy](ids, labels, self.modalities, self.label_range, **self.switches)

    def states(self, rows):
        states = {}
        for lean, space in zip((0.6, 0.3, -0.4, 0.0), ("fusion", *self.modalities), strict=False):
            noise = self.random.normal(size=(len(rows), WIDTHS[self.strategy][space]))
            states[space] = np.abs(noise + lean * np.asarray(self.labels[rows], np.float32)[:, None])
        return {space: values.astype(np.float32) for space, values in states.items()}

    def batches(self, size=8):
        order = self.random.permutation(len(self.labels)).tolist()
        return [order[start : start + size] for start in range(0, len(order), size)]

    def update(self, rows, states=None, present=None, generators=None):
        """One batch into `generators` (its own by default); states and masks are arrays or lists."""
        states = self.states(rows) if states is None else states
        present = {m: np.ones(len(rows), bool) for m in self.modalities} if present is None else present
        for generator in generators or [self.generator]:
            generator.update(torch.tensor(rows), to_torch(states), to_torch(present))

    def train(self, epochs, size=8, first_epoch=1, generators=None):
        """Whole epochs."""
        for epoch in range(first_epoch, first_epoch + epochs):
            for generator in generators or [self.generator]:
                generator.start_epoch(epoch)
            for rows in self.batches(size):
                self.update(rows, generators=generators)
            for generator in generators or [self.generator]:
                generator.record(epoch)


def to_torch(arrays):
    return {name: torch.from_numpy(np.asarray(values)) for name, values in arrays.items()}


def everything(generator):
    """All of a generator's state by sample id, spare rows left out."""
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


@pytest.fixture(params=list(LABEL_GENERATORS))
def strategy(request):
    """Each strategy's name in `LABEL_GENERATORS`."""
    return request.param


@pytest.fixture
def simulate():
    return Simulation


@pytest.fixture(name="everything")
def everything_of():
    return everything

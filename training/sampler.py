"""The training sampler: which samples make a batch, the same in a resumed run as in an unbroken one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class BucketSampler(Sampler[int]):
    """
    A new random order in every epoch, decided by seed and epoch alone: the library's samplers draw from the global
    random state, so an epoch that is resumed in its middle would go on with other samples.

    With lengths, samples of similar length are put next to each other, within random groups of `group_batches` batches,
    and then the batches are shuffled: less padding, and little less randomness.

    Args:
        samples (`int`): Size of the training split.
        seed (`int`): Seed of the run.
        lengths (list of `int`, *optional*): Length of each sample; without them the order is only random.
        batch_size (`int`): Samples per step over all processes.
        group_batches (`int`): Batches whose samples are sorted together.
    """

    def __init__(
        self,
        samples: int,
        seed: int,
        lengths: Sequence[int] | None = None,
        batch_size: int = 1,
        group_batches: int = 50,
    ):
        self.samples = samples
        self.seed = seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.batch_size = batch_size
        self.group_batches = group_batches
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.samples)
        if self.lengths is None:
            return iter(order.tolist())
        group = self.batch_size * self.group_batches
        batches = []
        for start in range(0, self.samples, group):
            members = order[start : start + group]
            members = members[np.argsort(self.lengths[members], kind="stable")]
            batches += [members[i : i + self.batch_size] for i in range(0, len(members), self.batch_size)]
        # Only the last group may end in a short batch, which has to come last: every other one must be full.
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        chosen = [full[i] for i in random.permutation(len(full))] + short
        return iter(np.concatenate(chosen).tolist())

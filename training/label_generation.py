"""
Unimodal labels generated during training (ULGM): what all strategies share, and the strategies. The callback that
drives them is in `training.label_callback`.

Labels and everything that they are computed from are kept by sample id, so shuffling, bucketing, resuming and several
processes do not mix them up.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from datasets_scripts import MODALITIES
from datasets_scripts.files import whole_file


class ClassCentres:
    """
    Mean representation of the samples with a positive and of those with a negative label, over the last representation
    that was seen of each sample (Self-MM, equations 1 and 2).

    Held as running sums: a step costs as much as its batch, whatever the size of the training split. The sums are in
    double precision and made anew from the stored representations once per epoch.

    Args:
        samples (`int`): Size of the training split.
        size (`int`): Width of the representation.
    """

    def __init__(self, samples: int, size: int, device: torch.device):
        # One row more than samples: where duplicates of a row write to.
        self.features = torch.zeros(samples + 1, size, device=device)
        self.classes = torch.zeros(samples + 1, dtype=torch.int8, device=device)  # 1, -1, or 0: counts for neither
        self.sums = torch.zeros(2, size, dtype=torch.float64, device=device)
        self.counts = torch.zeros(2, dtype=torch.float64, device=device)

    def observe(self, rows: torch.Tensor, features: torch.Tensor, classes: torch.Tensor) -> None:
        """Replaces representations (B, size) and classes (B,) of `rows`, which hold no row twice but the spare one."""
        self._add(self.features[rows], self.classes[rows], sign=-1)
        features = features.to(self.features.dtype)
        self._add(features, classes, sign=1)
        self.features[rows] = features
        self.classes[rows] = classes.to(torch.int8)
        self.classes[-1] = 0

    def recompute(self) -> None:
        """Makes the sums anew, in one pass over all samples."""
        self.sums.zero_()
        self.counts.zero_()
        self._add(self.features[:-1], self.classes[:-1], sign=1)

    @property
    def known(self) -> torch.Tensor:
        """Whether both classes have a sample, a bool tensor without dimensions."""
        return (self.counts > 0).all()

    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean representation (size,) of the positive and of the negative class, double precision."""
        positive, negative = self.sums / self.counts.clamp(min=1).unsqueeze(-1)
        return positive, negative

    def relative_distance(self, features: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
        """
        alpha = (D_n - D_p) / (D_p + epsilon), D being the Euclidean distance over the root of the width (equations 3 to
        5), and whether both classes have a sample, without which it means nothing.

        Args:
            features (`torch.Tensor` of shape `(B, size)`): Representations.

        Returns:
            alpha (B,), double precision, and a bool tensor without dimensions.
        """
        positive, negative = self.means()
        features = features.to(torch.float64)
        scale = math.sqrt(features.shape[1])
        to_positive = torch.linalg.vector_norm(features - positive, dim=1) / scale
        to_negative = torch.linalg.vector_norm(features - negative, dim=1) / scale
        return (to_negative - to_positive) / (to_positive + epsilon), self.known

    def _add(self, features: torch.Tensor, classes: torch.Tensor, sign: int) -> None:
        members = torch.stack([classes > 0, classes < 0]).to(torch.float64)
        self.sums += sign * (members @ features.to(torch.float64))
        self.counts += sign * members.sum(dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        return {"features": self.features, "classes": self.classes, "sums": self.sums, "counts": self.counts}


class LabelGenerator(ABC):
    """
    Book-keeping that every strategy shares: labels by sample, one update per sample and epoch, the momentum average,
    the history, and the state that goes into checkpoints.

    Args:
        ids (list of `str`): Ids of the training samples, all different.
        labels (array (N,)): Their multimodal labels y_m, with which every unimodal label starts.
        modalities (tuple of `str`): The modalities that get labels.
        label_range ((`float`, `float`)): What generated values are clipped to, before the momentum average.
        clip (`bool`): Whether they are.
        zero_is_positive (`bool`): Whether zero labels count among the positive ones, as in both authors' codes; the
            papers leave them out.
        device: Where the state lives; the training device spares a transfer per step.
    """

    SWITCHES: tuple[str, ...] = ("clip", "zero_is_positive")  # what a recipe's `label_generator` may set: true or false
    COMMON_SPACE = False  # whether representations of different tasks are compared

    def __init__(
        self,
        ids: Sequence[str],
        labels: np.ndarray,
        modalities: Sequence[str],
        label_range: Sequence[float],
        *,
        clip: bool = True,
        zero_is_positive: bool = False,
        device: torch.device | str = "cpu",
    ):
        self.ids = list(ids)
        self._row_of = {sample: row for row, sample in enumerate(self.ids)}
        if len(self._row_of) != len(self.ids):
            raise ValueError("Label generation needs different ids; the training split has some more than once.")
        self.modalities = tuple(modalities)
        self.label_range = tuple(label_range)
        self.clip = clip
        self.zero_is_positive = zero_is_positive
        self.notes: list[str] = []  # what is remarkable about the labels, a sentence each
        self.device = torch.device(device)
        if self.device.type == "mps":  # has no double precision
            self.device = torch.device("cpu")
        start = torch.as_tensor(np.asarray(labels, np.float64))
        start = torch.cat([start, start.new_zeros(1)]).to(self.device)
        self.m_labels = start
        self.labels = {modality: start.clone() for modality in self.modalities}
        self.updated_in = torch.zeros(len(self.ids) + 1, dtype=torch.int64, device=self.device)
        self.epoch = 0
        self.spaces: dict[str, ClassCentres] = {}
        self.history: dict[int, torch.Tensor] = {}

    @classmethod
    def check_states(cls, sizes: dict[str, int]) -> None:
        """
        Args:
            sizes (`dict`): Width of each task's representation.

        Raises:
            ValueError: if the strategy compares representations of different tasks and they differ in width.
        """
        if cls.COMMON_SPACE and len(set(sizes.values())) > 1:
            found = ", ".join(f"{task} {size}" for task, size in sizes.items())
            names = ", ".join(f"model.{task}_size" for task in sizes)
            raise ValueError(
                "This `label_generation` compares the states of all tasks in one space: they must be equally wide; got "
                f"{found}. Set {names} to one value."
            )

    @abstractmethod
    def generate(
        self, states: dict[str, torch.Tensor], m_labels: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """New values (B,) by modality, each with a bool tensor that is false where there is none."""

    @abstractmethod
    def observe(self, rows: torch.Tensor, states: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> None:
        """Takes up the batch's representations, after its labels were updated."""

    def classes(self, labels: torch.Tensor) -> torch.Tensor:
        """1 for positive labels, -1 for negative ones, and 0."""
        positive = labels >= 0 if self.zero_is_positive else labels > 0
        return positive.to(torch.int8) - (labels < 0).to(torch.int8)

    def rows(self, ids: Sequence[str]) -> torch.Tensor:
        """Row numbers (B,) of samples."""
        try:
            return torch.tensor([self._row_of[sample] for sample in ids], device=self.device)
        except KeyError as error:
            raise ValueError(f"Sample id {error.args[0]!r} is not in the training split.") from None

    def targets(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Current unimodal labels (B,) of `rows` by modality."""
        return {modality: labels[rows].float() for modality, labels in self.labels.items()}

    def start_epoch(self, epoch: int, resumed: bool = False) -> None:
        """
        Args:
            epoch (`int`): Counted from 1, as in the papers.
            resumed (`bool`): Whether the epoch goes on where a checkpoint left it.
        """
        if epoch > 1 and epoch - 1 not in self.history:
            self.record(epoch - 1)  # the run was stopped between an epoch's last step and its end
        self.epoch = epoch
        if not resumed:
            for space in self.spaces.values():
                space.recompute()

    def update(self, rows: torch.Tensor, states: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> None:
        """
        One step of algorithm 1: the batch's labels from its representations and the centres as they stood before it
        (from the second epoch on), then its representations into the centres.

        Args:
            rows (`torch.Tensor` of shape `(B,)`): Row numbers; of a row that occurs twice, the first one counts.
            states (`dict`): Representations (B, d) of "fusion" and of each modality, without gradient.
            present (`dict`): By modality, (B,) bool: whether the sample has it. Without it its label stays as it is.
        """
        spare = len(self.ids)
        order = torch.argsort(rows, stable=True)
        repeated = torch.zeros_like(rows, dtype=torch.bool)
        repeated[order[1:]] = rows[order[1:]] == rows[order[:-1]]
        rows = torch.where(repeated, spare, rows)
        present = {modality: mask & ~repeated for modality, mask in present.items()}
        if self.epoch > 1:
            first_time = self.updated_in[rows] < self.epoch
            for modality, (values, known) in self.generate(states, self.m_labels[rows]).items():
                if self.clip:
                    values = values.clamp(*self.label_range)
                old = self.labels[modality][rows]
                n = self.epoch
                new = (n - 1) / (n + 1) * old + 2 / (n + 1) * values  # Self-MM, equation 9
                keep = ~(known & first_time & present[modality])
                self.labels[modality][rows] = torch.where(keep, old, new)
        self.updated_in[rows] = self.epoch
        self.observe(rows, states, present)

    def record(self, epoch: int) -> None:
        """Keeps the labels as those after `epoch`."""
        columns = [self.labels[modality][:-1].float().cpu() for modality in self.modalities]
        self.history[epoch] = torch.stack(columns, dim=1) if columns else torch.zeros(len(self.ids), 0)

    def history_table(self) -> pa.Table:
        """(id, epoch, text, audio, vision); a modality without generated labels is null."""
        columns = {
            "id": pa.array(self.ids * len(self.history), pa.string()),
            "epoch": pa.array(np.repeat(sorted(self.history), len(self.ids)), pa.int32()),
        }
        values = [self.history[epoch] for epoch in sorted(self.history)]
        stacked = torch.cat(values) if values else torch.zeros(0, len(self.modalities))
        for modality in MODALITIES:
            if modality in self.modalities:
                columns[modality] = pa.array(stacked[:, self.modalities.index(modality)].numpy())
            else:
                columns[modality] = pa.nulls(len(stacked), pa.float32())
        return pa.table(columns)

    def save(self, path: str | Path) -> None:
        """Writes the whole state to a safetensors file."""
        tensors = {"updated_in": self.updated_in[:-1]}
        tensors |= {f"labels.{modality}": labels[:-1] for modality, labels in self.labels.items()}
        tensors |= {f"history.{epoch}": labels for epoch, labels in self.history.items()}
        for name, space in self.spaces.items():
            tensors |= {f"spaces.{name}.{key}": tensor for key, tensor in space.state().items()}
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        metadata = {"ids": json.dumps(self.ids), "epoch": str(self.epoch), "modalities": ",".join(self.modalities)}
        with whole_file(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def load(self, path: str | Path) -> None:
        """
        Restores what `save` wrote; the training split may have another order by now, but not other samples.

        Raises:
            ValueError: if ids or modalities differ.
        """
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name).to(self.device) for name in file.keys()}  # noqa: SIM118
        saved_ids = json.loads(metadata["ids"])
        if metadata["modalities"] != ",".join(self.modalities) or set(saved_ids) != set(self.ids):
            raise ValueError(
                f"{path} holds generated labels of {len(saved_ids)} samples for {metadata['modalities']}, but this run "
                f"trains {len(self.ids)} samples, maybe others, with {','.join(self.modalities)}; resume with the same "
                "data and tasks."
            )
        position = {sample: row for row, sample in enumerate(saved_ids)}
        order = torch.tensor([position[sample] for sample in self.ids], device=self.device)
        with_spare = torch.cat([order, torch.tensor([len(order)], device=self.device)])
        self.epoch = int(metadata["epoch"])
        self.updated_in[:-1] = tensors.pop("updated_in")[order]
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "labels":
                self.labels[rest][:-1] = tensor[order]
            elif kind == "history":
                self.history[int(rest)] = tensor[order].cpu()
            elif kind == "spaces":
                space, _, key = rest.partition(".")
                state = self.space(space, tensors[f"spaces.{space}.features"].shape[1]).state()
                state[key].copy_(tensor[with_spare] if key in ("features", "classes") else tensor)

    def space(self, name: str, size: int) -> ClassCentres:
        """The centres of one representation, made at its first use, when its width is known."""
        if name not in self.spaces:
            self.spaces[name] = ClassCentres(len(self.ids), size, self.device)
        return self.spaces[name]


class SelfMMLabelGenerator(LabelGenerator):
    """
    Self-MM's unimodal label generation (Yu et al., AAAI 2021, section "ULGM", algorithm 1).

    Equation by equation:

    - (1), (2): class centres over the global representations F^g, for each of m, t, a, v by that space's own labels
      (y_m; the current u-labels), strictly above and strictly below zero. Representations not seen yet are left out,
      while the paper counts them as zero vectors; only the first epoch has such, and it generates nothing.
    - (3), (4), (5): distances over the root of the width, relative distance alpha, epsilon 1e-8.
    - (6), (7), (8): y_s = y_m alpha_s / (2 alpha_m) + (y_m + alpha_s - alpha_m) / 2. Where |alpha_m| is below epsilon
      it is replaced by epsilon with alpha_m's sign.
    - (9): momentum (n - 1)/(n + 1) and 2/(n + 1) in epoch n, from the second epoch on.
    - Algorithm 1: the batch's labels before its representations, these before the centres. The parameter step lies
      between in the paper; the values do not depend on it, since F* comes from the forward pass before it. Loss and
      gradient (lines 7, 8) use the labels as they stood before the batch.

    Beyond the paper, and here by default: generated values are clipped to the label range before (9), as in the
    authors' code (`clip=False` leaves it out); alpha_m may come close to zero, and only this keeps (6) bounded. Until
    both classes have a sample, and for a sample without the modality, the label stays as it is.

    Where the authors' code differs from the paper: zero labels count as positive (`zero_is_positive=True`; MMSA, by the
    same authors, excludes them); distances are not divided by the root of the width, which cancels in alpha but for
    epsilon; epsilon is added to alpha_m, whatever its sign; rows are positions in the dataset; nothing of it goes into
    the checkpoint. In the code, as in the paper, representations include dropout's noise.
    """

    EPSILON = 1e-8

    def generate(self, states, m_labels):
        fusion = self.space("fusion", states["fusion"].shape[1])
        alpha_m, m_known = fusion.relative_distance(states["fusion"], self.EPSILON)
        tiny = torch.where(alpha_m < 0, -self.EPSILON, self.EPSILON)
        divisor = torch.where(alpha_m.abs() < self.EPSILON, tiny, alpha_m)
        generated = {}
        for modality in self.modalities:
            space = self.space(modality, states[modality].shape[1])
            alpha, known = space.relative_distance(states[modality], self.EPSILON)
            values = m_labels * alpha / (2 * divisor) + (m_labels + alpha - alpha_m) / 2
            generated[modality] = values, known & m_known
        return generated

    def observe(self, rows, states, present):
        everyone = rows < len(self.ids)
        for name in ("fusion", *self.modalities):
            labels = (self.m_labels if name == "fusion" else self.labels[name])[rows]
            counted = everyone if name == "fusion" else present[name]
            classes = torch.where(counted, self.classes(labels), 0)
            self.space(name, states[name].shape[1]).observe(rows, states[name], classes)


class SugrmLabelGenerator(LabelGenerator):
    """
    SUGRM's unimodal label generation (Hwang and Kim, Findings of EACL 2023, section 3.3).

    All representations lie in one common space, where distances are taken to be proportional to those of the labels:

    - Magnitude: D_ms = |F_m - F_s|, at most D_max = |mean F_m(+3) - mean F_m(-3)|, times the distance of these labels
      over D_max.
    - Direction: plus where D_s^p / D_s^n < D_m^p / D_m^n, minus where it is above, none where they are equal; D^p and
      D^n are the distances to the mean multimodal representation of the samples with a positive and with a negative
      label. (Compared as products, so that no distance is divided by.)
    - y_s = y_m plus or minus the magnitude, then Self-MM's momentum.

    Order, representations and what is saved are as for Self-MM's strategy; the means are taken over the last
    representation seen of each sample.

    The extreme labels are the ends of `label_range`. A corpus in which no training sample carries one of them has, at
    that end, the samples with the highest (lowest) labels instead, 2 % of the split and at least one, and the mean of
    their labels in the distance that D_max stands for; `notes` says so.

    Beyond the paper, as in the authors' code and by default: generated values are clipped to the label range
    (`clip=False` leaves it out). Where their code differs from the paper: zero labels count as positive
    (`zero_is_positive=True`). It also counts the samples with an extreme label once for every batch that its first pass
    still had to read, which weights D_max by chance; that is not offered.
    """

    COMMON_SPACE = True
    EXTREME_SHARE = 0.02

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        labels = self.m_labels[:-1]
        self.extremes = torch.zeros(len(self.m_labels), dtype=torch.int8, device=self.device)
        by_id = torch.tensor(sorted(range(len(self.ids)), key=self.ids.__getitem__), device=self.device)
        by_label = by_id[torch.argsort(labels[by_id], stable=True)]  # ties by id, whatever the split's order
        for sign, bound, end in ((1, self.label_range[1], "highest"), (-1, self.label_range[0], "lowest")):
            rows = torch.nonzero((labels - bound).abs() < 1e-6).flatten()
            if len(rows) == 0:
                count = max(1, round(self.EXTREME_SHARE * len(labels)))
                rows = by_label[-count:] if sign > 0 else by_label[:count]
                low, high = labels[rows].min().item(), labels[rows].max().item()
                self.notes.append(
                    f"Label generation: no training sample has the label {bound:g}; the {count} with the {end} labels "
                    f"({low:g} to {high:g}) stand for it."
                )
            self.extremes[rows] = sign
        means = [labels[self.extremes[:-1] == sign].mean() for sign in (1, -1)]
        self.label_distance = means[0] - means[1]

    def generate(self, states, m_labels):
        size = states["fusion"].shape[1]
        centres, extremes = self.space("fusion", size), self.space("extremes", size)
        high, low = extremes.means()
        farthest = torch.linalg.vector_norm(high - low)
        fusion = states["fusion"].to(torch.float64)
        to_positive, to_negative = self._distances(fusion, centres)
        generated = {}
        for modality in self.modalities:
            state = states[modality].to(torch.float64)
            distance = torch.minimum(torch.linalg.vector_norm(fusion - state, dim=1), farthest)
            magnitude = self.label_distance * distance / farthest.clamp(min=torch.finfo(torch.float64).tiny)
            own_positive, own_negative = self._distances(state, centres)
            direction = torch.sign(to_positive * own_negative - own_positive * to_negative)
            generated[modality] = m_labels + direction * magnitude, centres.known & extremes.known
        return generated

    @staticmethod
    def _distances(features, centres: ClassCentres):
        return [torch.linalg.vector_norm(features - mean, dim=1) for mean in centres.means()]

    def observe(self, rows, states, present):
        everyone = rows < len(self.ids)
        features = states["fusion"]
        for name, classes in (("fusion", self.classes(self.m_labels[rows])), ("extremes", self.extremes[rows])):
            self.space(name, features.shape[1]).observe(rows, features, torch.where(everyone, classes, 0))


LABEL_GENERATORS: dict[str, type[LabelGenerator]] = {"self_mm": SelfMMLabelGenerator, "sugrm": SugrmLabelGenerator}

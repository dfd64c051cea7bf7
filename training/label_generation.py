"""
Unimodal labels generated during training (ULGM): what all strategies share, and the strategies. The callback that
drives them is in `training.label_callback`.

Labels and everything that they are computed from are kept by sample id, so shuffling, bucketing, resuming and several
processes do not mix them up.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from datasets_scripts import MODALITIES
from datasets_scripts.files import whole_file


@dataclass
class Space:
    """
    One representation's part of `ClassCentres`, of N samples and a spare row: views, through which it can be changed.

    Attributes:
        features (`torch.Tensor` of shape `(N + 1, size)`): The last representation that was seen of each sample.
        members (`torch.Tensor` of shape `(N + 1, 2)`): Ones at members of the positive, and of the negative class.
        sums (`torch.Tensor` of shape `(2, size)`), counts (of shape `(2,)`): Over the positive and the negative class.
    """

    features: torch.Tensor
    members: torch.Tensor
    sums: torch.Tensor
    counts: torch.Tensor

    @property
    def classes(self) -> torch.Tensor:
        """(N + 1,) int8: 1, -1, or 0 for a sample that counts for neither class."""
        return (self.members[:, 0] - self.members[:, 1]).to(torch.int8)

    def state(self) -> dict[str, torch.Tensor]:
        """What is saved, a copy."""
        found = {"features": self.features, "classes": self.classes, "sums": self.sums, "counts": self.counts}
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()
        }

    def restore(self, state: dict[str, torch.Tensor], order: torch.Tensor) -> None:
        """Takes what `state` gave, whose rows were in another order."""
        classes = state["classes"][order]
        self.features.copy_(state["features"][order])
        self.members.copy_(torch.stack([classes > 0, classes < 0], dim=1))
        self.sums.copy_(state["sums"])
        self.counts.copy_(state["counts"])


class ClassCentres:
    """
    Mean representations of the samples with a positive and of those with a negative label, over the last representation
    that was seen of each sample, for several kinds of representations, or of labels, at once (Self-MM, equations 1 and
    2).

    Held as running sums: a step costs as much as its batch, whatever the size of the training split. The sums are in
    double precision and made anew from the stored representations once per epoch.

    A step's time is that of the number of its operations, not of their size. So the kinds lie side by side, a sample is
    one row of one table (its representations, a one, and a one or zero per class: a product of the latter with the
    former gives sums and counts), and the product is taken of every class with every kind, though only a kind's own
    classes are of use to it.

    Args:
        samples (`int`): Size of the training split.
        sizes (`dict`): Width of each kind, by name.
    """

    def __init__(self, samples: int, sizes: dict[str, int], device: torch.device):
        self.sizes = dict(sizes)
        widths = torch.tensor(list(sizes.values()))
        kinds = torch.arange(len(sizes)).repeat_interleave(widths).to(device)
        self.kind_of_column = kinds.expand(2, 1, -1)
        self.share_of_column = torch.nn.functional.one_hot(kinds, len(sizes)) / widths.to(kinds.device).double()
        # One row more than samples: where duplicates of a row write to.
        self.width = len(kinds) + 1  # with the one that counts
        self.table = torch.zeros(samples + 1, self.width + 2 * len(sizes), device=device)
        self.table[:, self.width - 1] = 1.0
        self.sums = torch.zeros(2 * len(sizes), self.width, dtype=torch.float64, device=device)

    @property
    def spaces(self) -> dict[str, Space]:
        """The kinds by name."""
        features = self.table[:, : self.width - 1].split(list(self.sizes.values()), dim=1)
        members = self.table[:, self.width :].unflatten(1, (2, -1)).unbind(2)
        sums = self.sums[:, :-1].split(list(self.sizes.values()), dim=1)
        found = {}
        for number, name in enumerate(self.sizes):
            both = slice(number, None, len(self.sizes))
            found[name] = Space(features[number], members[number], sums[number][both], self.sums[both, -1])
        return found

    def observe(self, rows: torch.Tensor, features: torch.Tensor, members: torch.Tensor) -> None:
        """
        Replaces what is known of `rows`, which hold no row twice but the spare one.

        Args:
            features (`torch.Tensor` of shape `(B, total width)`): Representations, side by side.
            members (`torch.Tensor` of shape `(B, 2 * kinds)`): Ones at members of each kind's positive class, then of
                each kind's negative class. Rows of the spare one have none.
        """
        old = self.table.index_select(0, rows)
        new = torch.cat([features.float(), torch.ones_like(members[:, :1]), members], dim=1)
        self.table.index_copy_(0, rows, new)
        old[:, self.width :].neg_()
        self._add(torch.cat([old, new]))

    def recompute(self) -> None:
        """Makes the sums anew, in one pass over all samples."""
        self.sums.zero_()
        for part in self.table[:-1].split(8192):
            self._add(part)

    @property
    def known(self) -> torch.Tensor:
        """Whether both classes have a sample, (kinds,) bool."""
        positive, negative = self.sums[:, -1].view(2, -1)
        return torch.minimum(positive, negative) > 0

    def means(self) -> torch.Tensor:
        """Mean representations of the positive and of the negative class, side by side: (2, total width), double."""
        means = self.sums / self.sums[:, -1:].clamp(min=1)
        return means.view(2, -1, self.width).gather(1, self.kind_of_column).squeeze(1)

    def relative_distance(self, features: torch.Tensor, epsilon: float) -> torch.Tensor:
        """
        alpha = (D_n - D_p) / (D_p + epsilon), D being the Euclidean distance over the root of the width (equations 3 to
        5), which means nothing where a class has no sample.

        Args:
            features (`torch.Tensor` of shape `(B, total width)`): Representations, side by side.

        Returns:
            alpha (B, kinds), double precision.
        """
        squares = (features - self.means().unsqueeze(1)).square_()
        to_positive, to_negative = (squares @ self.share_of_column).sqrt_()
        return (to_negative - to_positive).div_(to_positive + epsilon)

    def _add(self, samples: torch.Tensor) -> None:
        """Adds rows like those of the table."""
        samples = samples.to(torch.float64)
        self.sums.addmm_(samples[:, self.width :].t(), samples[:, : self.width])


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
        self._id_column = pa.array(self.ids, pa.string())
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
        # A row per sample: its multimodal label, its unimodal ones, and the epoch in which it was last seen.
        self.table = start.unsqueeze(1).repeat(1, len(self.modalities) + 2)
        self.m_labels, *unimodal, self.updated_in = self.table.unbind(1)
        self.labels = dict(zip(self.modalities, unimodal, strict=True))
        self.updated_in.zero_()
        self.epoch = 0
        self.centres: ClassCentres | None = None  # made when the widths of representations are known
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

    @property
    def spaces(self) -> dict[str, Space]:
        """What is known of each kind of representation, by name; nothing before the first step."""
        return {} if self.centres is None else self.centres.spaces

    @property
    @abstractmethod
    def kinds(self) -> dict[str, str]:
        """The kinds of which class centres are kept, and whose representation each is: "fusion" or a modality."""

    def side_by_side(self, states: dict[str, torch.Tensor]) -> torch.Tensor:
        """The representations (B, total width) of all kinds."""
        return torch.cat([states[task] for task in self.kinds.values()], dim=1)

    @abstractmethod
    def generate(
        self, states: dict[str, torch.Tensor], m_labels: torch.Tensor, centres: ClassCentres
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        New values (B, modalities), and bools (modalities,) that are false where they mean nothing.

        Args:
            m_labels (`torch.Tensor` of shape `(B, 1)`): The batch's multimodal labels.
        """

    @abstractmethod
    def members(self, rows: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """
        Ones (B, 2 * kinds) where rows are members of each kind's positive class, then of each kind's negative class.

        Args:
            labels (`torch.Tensor` of shape `(B, 1 + modalities)`): Their labels, after they were updated.
            counted (`torch.Tensor` of shape `(B, 1 + modalities)`): Whether the sample counts, and has the modality.
        """

    def positive(self, labels: torch.Tensor) -> torch.Tensor:
        """Whether labels count among the positive ones."""
        return labels >= 0 if self.zero_is_positive else labels > 0

    def rows(self, ids: Sequence[str]) -> torch.Tensor:
        """Row numbers (B,) of samples."""
        try:
            return torch.tensor([self._row_of[sample] for sample in ids], device=self.device)
        except KeyError as error:
            raise ValueError(f"Sample id {error.args[0]!r} is not in the training split.") from None

    def targets(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Current unimodal labels (B,) of `rows` by modality."""
        return dict(zip(self.modalities, self.table.index_select(0, rows).float().unbind(1)[1:-1], strict=True))

    def start_epoch(self, epoch: int, resumed: bool = False) -> None:
        """
        Args:
            epoch (`int`): Counted from 1, as in the papers.
            resumed (`bool`): Whether the epoch goes on where a checkpoint left it.
        """
        if epoch > 1 and epoch - 1 not in self.history:
            self.record(epoch - 1)  # the run was stopped between an epoch's last step and its end
        self.epoch = epoch
        if not resumed and self.centres is not None:
            self.centres.recompute()

    def update(self, rows: torch.Tensor, states: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> None:
        """
        One step of algorithm 1: the batch's labels from its representations and the centres as they stood before it
        (from the second epoch on), then its representations into the centres.

        Args:
            rows (`torch.Tensor` of shape `(B,)`): Row numbers; of a row that occurs twice, the first one counts.
            states (`dict`): Representations (B, d) of "fusion" and of each modality, without gradient.
            present (`dict`): By modality, (B,) bool: whether the sample has it. Without it its label stays as it is.
        """
        rows, every_row_counts = self._once(rows)
        counted = torch.stack([rows < len(self.ids), *(present[m] for m in self.modalities)], dim=1)
        if not every_row_counts:
            counted &= counted[:, :1]
        if self.centres is None:
            self.centres = self._new_centres({kind: states[task].shape[1] for kind, task in self.kinds.items()})
        samples = self.table.index_select(0, rows)
        labels, updated_in = samples[:, :-1], samples[:, -1:]
        if self.epoch > 1:
            values, known = self.generate(states, labels[:, :1], self.centres)
            if self.clip:
                values = values.clamp(*self.label_range)
            n, unimodal = self.epoch, labels[:, 1:]
            new = (n - 1) / (n + 1) * unimodal + 2 / (n + 1) * values  # Self-MM, equation 9
            changed = (updated_in < n) & counted[:, 1:] & known
            torch.where(changed, new, unimodal, out=unimodal)
        updated_in.fill_(self.epoch)
        self.table.index_copy_(0, rows, samples)
        self.centres.observe(rows, self.side_by_side(states), self.members(rows, labels, counted))

    def _once(self, rows: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Rows whose second and later occurrences are the spare row, and whether it is known that there is none."""
        if rows.device.type == "cpu":  # elsewhere it would have to be waited for
            different = set(rows.tolist())
            if len(different) == len(rows) and len(self.ids) not in different:
                return rows, True
        order = torch.argsort(rows, stable=True)
        repeated = torch.zeros_like(rows, dtype=torch.bool)
        repeated[order[1:]] = rows[order[1:]] == rows[order[:-1]]
        return torch.where(repeated, len(self.ids), rows), False

    def record(self, epoch: int) -> None:
        """Keeps the labels as those after `epoch`."""
        self.history[epoch] = self.table[:-1, 1:-1].float().cpu()

    def history_table(self) -> pa.Table:
        """(id, epoch, text, audio, vision); a modality without generated labels is null."""
        return pa.concat_tables(
            [self._epoch_table(epoch) for epoch in sorted(self.history)] or [self._epoch_table(None)]
        )

    def write_history(self, path: str | Path) -> None:
        """Writes `history_table`, an epoch at a time, to a Parquet file."""
        with (
            whole_file(path) as temporary,
            pq.ParquetWriter(temporary, self._epoch_table(None).schema, use_dictionary=["epoch"]) as file,
        ):
            for epoch in sorted(self.history):
                file.write_table(self._epoch_table(epoch))

    def _epoch_table(self, epoch: int | None) -> pa.Table:
        """The labels after an epoch; no rows for None."""
        labels = torch.zeros(0, len(self.modalities)) if epoch is None else self.history[epoch]
        columns = {
            "id": self._id_column[: len(labels)],
            "epoch": pa.array(np.full(len(labels), epoch or 0), pa.int32()),
        }
        for modality in MODALITIES:
            if modality in self.modalities:
                columns[modality] = pa.array(labels[:, self.modalities.index(modality)].numpy())
            else:
                columns[modality] = pa.nulls(len(labels), pa.float32())
        return pa.table(columns)

    def save(self, path: str | Path) -> None:
        """Writes the whole state to a safetensors file."""
        tensors = {"updated_in": self.updated_in[:-1].long()}
        tensors |= {f"labels.{modality}": labels[:-1] for modality, labels in self.labels.items()}
        tensors |= {f"history.{epoch}": labels for epoch, labels in self.history.items()}
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
        }
        for name, space in self.spaces.items():
            tensors |= {f"spaces.{name}.{key}": tensor for key, tensor in space.state().items()}
        # Not among the metadata: the library reads no header of more than 100 MB, which five million ids would need.
        tensors["ids"] = torch.frombuffer(bytearray(json.dumps(self.ids).encode()), dtype=torch.uint8)
        metadata = {"epoch": str(self.epoch), "modalities": ",".join(self.modalities)}
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
            saved_ids = json.loads(file.get_tensor("ids").numpy().tobytes())
            names = [name for name in file.keys() if name != "ids"]  # noqa: SIM118
            tensors = {name: file.get_tensor(name).to(self.device) for name in names}
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
        features = [name for name in tensors if name.startswith("spaces.") and name.endswith(".features")]
        sizes = {name.split(".")[1]: tensors[name].shape[1] for name in features}
        self.centres = self._new_centres(sizes) if sizes else None
        for name, space in self.spaces.items():
            prefix = f"spaces.{name}."
            of_space = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            space.restore(of_space, with_spare)

    def _new_centres(self, sizes: dict[str, int]) -> ClassCentres:
        return ClassCentres(len(self.ids), {kind: sizes[kind] for kind in self.kinds}, self.device)


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

    @property
    def kinds(self):
        return {task: task for task in ("fusion", *self.modalities)}

    def generate(self, states, m_labels, centres):
        alpha = centres.relative_distance(self.side_by_side(states), self.EPSILON)
        alpha_m, alpha_s = alpha[:, :1], alpha[:, 1:]
        divisor = alpha_m.abs().clamp_(min=self.EPSILON).copysign_(alpha_m)
        shifts = torch.addcmul(alpha_s, m_labels, alpha_s / divisor).add_(m_labels - alpha_m)
        known = centres.known
        return shifts.mul_(0.5), known[1:] & known[0]

    def members(self, rows, labels, counted):
        return torch.cat([self.positive(labels) & counted, (labels < 0) & counted], dim=1)


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
        classes = self.positive(self.m_labels), self.extremes > 0, self.m_labels < 0, self.extremes < 0
        self.all_members = torch.stack(classes, dim=1)  # they never change
        self.all_members[-1] = False

    @property
    def kinds(self):
        return {"fusion": "fusion", "extremes": "fusion"}  # the same, by two kinds of classes

    def generate(self, states, m_labels, centres):
        size = states["fusion"].shape[1]
        means = centres.means()
        highest, lowest = means[:, size:]
        farthest = torch.linalg.vector_norm(highest - lowest)
        every = torch.stack([states[name] for name in ("fusion", *self.modalities)], dim=1).to(torch.float64)
        positive, negative = torch.linalg.vector_norm(every - means[:, None, None, :size], dim=3)
        apart = torch.linalg.vector_norm(every[:, :1] - every[:, 1:], dim=2)
        magnitude = self.label_distance * torch.minimum(apart, farthest)
        magnitude = magnitude / farthest.clamp(min=torch.finfo(torch.float64).tiny)
        direction = torch.sign(positive[:, :1] * negative[:, 1:] - positive[:, 1:] * negative[:, :1])
        values = m_labels + direction * magnitude
        return values, centres.known.all().expand(len(self.modalities))

    def members(self, rows, labels, counted):
        return self.all_members.index_select(0, rows)


LABEL_GENERATORS: dict[str, type[LabelGenerator]] = {"self_mm": SelfMMLabelGenerator, "sugrm": SugrmLabelGenerator}

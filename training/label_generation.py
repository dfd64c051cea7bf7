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
        classes (`torch.Tensor` of shape `(N + 1,)`): int8: 1, -1, or 0 for a sample that counts for neither class.
        sums (`torch.Tensor` of shape `(2, size)`), counts (of shape `(2,)`): Over the positive and the negative class.
    """

    features: torch.Tensor
    classes: torch.Tensor
    sums: torch.Tensor
    counts: torch.Tensor

    def state(self) -> dict[str, torch.Tensor]:
        return vars(self).copy()


class ClassCentres:
    """
    Mean representations of the samples with a positive and of those with a negative label, over the last representation
    that was seen of each sample, for several kinds of representations, or of labels, at once (Self-MM, equations 1 and
    2).

    Held as running sums: a step costs as much as its batch, whatever the size of the training split. The sums are in
    double precision and made anew from the stored representations once per epoch. The kinds lie side by side in the
    same tensors, since a step's time is that of its operations' number, not of their size.

    Args:
        samples (`int`): Size of the training split.
        sizes (`dict`): Width of each kind, by name.
    """

    def __init__(self, samples: int, sizes: dict[str, int], device: torch.device):
        self.sizes = dict(sizes)
        widths = torch.tensor(list(sizes.values()))
        kinds = torch.arange(len(sizes)).repeat_interleave(widths).to(device)
        self.kind_of_column = kinds
        self.columns_of_kind = torch.nn.functional.one_hot(kinds, len(sizes)).to(torch.float64)
        # One row more than samples: where duplicates of a row write to.
        self.features = torch.zeros(samples + 1, len(kinds), device=device)
        self.classes = torch.zeros(samples + 1, len(sizes), dtype=torch.int8, device=device)
        self.sums = torch.zeros(2, len(kinds), dtype=torch.float64, device=device)
        self.counts = torch.zeros(2, len(sizes), dtype=torch.float64, device=device)

    @property
    def spaces(self) -> dict[str, Space]:
        """The kinds by name."""
        features = self.features.split(list(self.sizes.values()), dim=1)
        sums = self.sums.split(list(self.sizes.values()), dim=1)
        parts = zip(features, self.classes.unbind(1), sums, self.counts.unbind(1), strict=True)
        return {name: Space(*part) for name, part in zip(self.sizes, parts, strict=True)}

    def observe(self, rows: torch.Tensor, features: torch.Tensor, classes: torch.Tensor) -> None:
        """
        Replaces what is known of `rows`, which hold no row twice but the spare one.

        Args:
            features (`torch.Tensor` of shape `(B, total width)`): Representations, side by side.
            classes (`torch.Tensor` of shape `(B, kinds)`): 1, -1 or 0.
        """
        features, classes = features.to(self.features.dtype), classes.to(torch.int8)
        old, new = self._members(self.classes.index_select(0, rows)).neg_(), self._members(classes)
        self._add(torch.cat([self.features.index_select(0, rows), features]), torch.cat([old, new], dim=1))
        self.features.index_copy_(0, rows, features)
        self.classes.index_copy_(0, rows, classes)
        self.classes[-1] = 0

    def recompute(self) -> None:
        """Makes the sums anew, in one pass over all samples."""
        self.sums.zero_()
        self.counts.zero_()
        for features, classes in zip(self.features[:-1].split(8192), self.classes[:-1].split(8192), strict=True):
            self._add(features, self._members(classes))

    @property
    def known(self) -> torch.Tensor:
        """Whether both classes have a sample, (kinds,) bool."""
        return (self.counts > 0).all(dim=0)

    def means(self) -> torch.Tensor:
        """Mean representations of the positive and of the negative class, side by side: (2, total width), double."""
        return self.sums / self.counts.clamp(min=1).index_select(1, self.kind_of_column)

    def relative_distance(self, features: torch.Tensor, epsilon: float) -> torch.Tensor:
        """
        alpha = (D_n - D_p) / (D_p + epsilon), D being the Euclidean distance over the root of the width (equations 3 to
        5), which means nothing where a class has no sample.

        Args:
            features (`torch.Tensor` of shape `(B, total width)`): Representations, side by side.

        Returns:
            alpha (B, kinds), double precision.
        """
        squares = (features.to(torch.float64) - self.means().unsqueeze(1)).square_()
        to_positive, to_negative = ((squares @ self.columns_of_kind) / self.columns_of_kind.sum(dim=0)).sqrt_()
        return (to_negative - to_positive) / (to_positive + epsilon)

    @staticmethod
    def _members(classes: torch.Tensor) -> torch.Tensor:
        """From classes (B, kinds) to ones (2, B, kinds) at the members of the positive and of the negative class."""
        return torch.stack([classes > 0, classes < 0]).to(torch.float64)

    def _add(self, features: torch.Tensor, weights: torch.Tensor) -> None:
        """Adds representations (B, total width), each class and kind with weights of its own (2, B, kinds)."""
        weighted = weights.index_select(2, self.kind_of_column) * features.to(torch.float64)
        self.sums += weighted.sum(dim=1)
        self.counts += weights.sum(dim=1)


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
        self.m_labels = start
        self.unimodal = start.unsqueeze(1).repeat(1, len(self.modalities))
        self.labels = dict(zip(self.modalities, self.unimodal.unbind(1), strict=True))  # its columns
        self.updated_in = torch.zeros(len(self.ids) + 1, dtype=torch.int64, device=self.device)
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
        """New values (B, modalities), and bools (modalities,) that are false where they mean nothing."""

    @abstractmethod
    def kind_classes(self, rows: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """
        The classes (B, kinds) of rows in each kind's centres, after their labels were updated.

        Args:
            present (`torch.Tensor` of shape `(B, modalities)`): Whether the sample has the modality.
        """

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
        return dict(zip(self.modalities, self.unimodal.index_select(0, rows).float().unbind(1), strict=True))

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
        spare = len(self.ids)
        order = torch.argsort(rows, stable=True)
        repeated = torch.zeros_like(rows, dtype=torch.bool)
        repeated[order[1:]] = rows[order[1:]] == rows[order[:-1]]
        rows = torch.where(repeated, spare, rows)
        columns = [present[modality] & ~repeated for modality in self.modalities]
        counted = torch.stack(columns, dim=1) if columns else repeated.new_zeros(len(rows), 0)
        if self.centres is None:
            self.centres = self._new_centres({kind: states[task].shape[1] for kind, task in self.kinds.items()})
        if self.epoch > 1:
            first_time = self.updated_in.index_select(0, rows) < self.epoch
            values, known = self.generate(states, self.m_labels.index_select(0, rows), self.centres)
            if self.clip:
                values = values.clamp(*self.label_range)
            old = self.unimodal.index_select(0, rows)
            n = self.epoch
            new = (n - 1) / (n + 1) * old + 2 / (n + 1) * values  # Self-MM, equation 9
            changed = known & first_time.unsqueeze(1) & counted
            self.unimodal.index_copy_(0, rows, torch.where(changed, new, old))
        self.updated_in.index_fill_(0, rows, self.epoch)
        self.centres.observe(rows, self.side_by_side(states), self.kind_classes(rows, counted))

    def record(self, epoch: int) -> None:
        """Keeps the labels as those after `epoch`."""
        self.history[epoch] = self.unimodal[:-1].float().cpu()

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
        tensors = {"updated_in": self.updated_in[:-1]}
        tensors |= {f"labels.{modality}": labels[:-1] for modality, labels in self.labels.items()}
        tensors |= {f"history.{epoch}": labels for epoch, labels in self.history.items()}
        for name, space in self.spaces.items():
            tensors |= {f"spaces.{name}.{key}": tensor for key, tensor in space.state().items()}
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
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
            for key, place in space.state().items():
                tensor = tensors[f"spaces.{name}.{key}"]
                place.copy_(tensor[with_spare] if key in ("features", "classes") else tensor)

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
        tiny = torch.where(alpha_m < 0, -self.EPSILON, self.EPSILON)
        divisor = torch.where(alpha_m.abs() < self.EPSILON, tiny, alpha_m)
        m_labels = m_labels.unsqueeze(1)
        values = m_labels * alpha_s / (2 * divisor) + (m_labels + alpha_s - alpha_m) / 2
        known = centres.known
        return values, known[1:] & known[0]

    def kind_classes(self, rows, present):
        labels = [table.index_select(0, rows) for table in (self.m_labels.unsqueeze(1), self.unimodal)]
        everyone = (rows < len(self.ids)).unsqueeze(1)
        return self.classes(torch.cat(labels, dim=1)).masked_fill_(~torch.cat([everyone, present], dim=1), 0)


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
        self.label_classes = self.classes(self.m_labels)
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
        values = m_labels.unsqueeze(1) + direction * magnitude
        return values, centres.known.all().expand(len(self.modalities))

    def kind_classes(self, rows, present):
        classes = torch.stack([self.label_classes.index_select(0, rows), self.extremes.index_select(0, rows)], dim=1)
        return classes.masked_fill_((rows == len(self.ids)).unsqueeze(1), 0)


LABEL_GENERATORS: dict[str, type[LabelGenerator]] = {"self_mm": SelfMMLabelGenerator, "sugrm": SugrmLabelGenerator}

"""
Unimodal labels generated during training (ULGM): the strategies, and the callback that drives them.

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
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback

from datasets_scripts import MODALITIES
from training.files import whole_file

STATE_FILE = "label_generation.safetensors"
HISTORY_FILE = "generated_labels.parquet"


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

    def relative_distance(self, features: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
        """
        alpha = (D_n - D_p) / (D_p + epsilon), D being the Euclidean distance over the root of the width (equations 3 to
        5), and whether both classes have a sample, without which it means nothing.

        Args:
            features (`torch.Tensor` of shape `(B, size)`): Representations.

        Returns:
            alpha (B,), double precision, and a bool tensor without dimensions.
        """
        positive, negative = self.sums / self.counts.clamp(min=1).unsqueeze(-1)
        features = features.to(torch.float64)
        scale = math.sqrt(features.shape[1])
        to_positive = torch.linalg.vector_norm(features - positive, dim=1) / scale
        to_negative = torch.linalg.vector_norm(features - negative, dim=1) / scale
        return (to_negative - to_positive) / (to_positive + epsilon), (self.counts > 0).all()

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
        device: Where the state lives; the training device spares a transfer per step.
    """

    SWITCHES: tuple[str, ...] = ("clip",)  # what a recipe's `label_generator` may set, all true or false

    def __init__(
        self,
        ids: Sequence[str],
        labels: np.ndarray,
        modalities: Sequence[str],
        label_range: Sequence[float],
        *,
        clip: bool = True,
        device: torch.device | str = "cpu",
    ):
        self.ids = list(ids)
        self._row_of = {sample: row for row, sample in enumerate(self.ids)}
        if len(self._row_of) != len(self.ids):
            raise ValueError("Label generation needs different ids; the training split has some more than once.")
        self.modalities = tuple(modalities)
        self.label_range = tuple(label_range)
        self.clip = clip
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

    @abstractmethod
    def generate(
        self, states: dict[str, torch.Tensor], m_labels: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """New values (B,) by modality, each with a bool tensor that is false where there is none."""

    @abstractmethod
    def observe(self, rows: torch.Tensor, states: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> None:
        """Takes up the batch's representations, after its labels were updated."""

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
    SWITCHES = (*LabelGenerator.SWITCHES, "zero_is_positive")

    def __init__(self, *args, zero_is_positive: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.zero_is_positive = zero_is_positive

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
            positive = labels >= 0 if self.zero_is_positive else labels > 0
            classes = positive.to(torch.int8) - (labels < 0).to(torch.int8)
            classes = torch.where(everyone if name == "fusion" else present[name], classes, 0)
            self.space(name, states[name].shape[1]).observe(rows, states[name], classes)


LABEL_GENERATORS: dict[str, type[LabelGenerator]] = {"self_mm": SelfMMLabelGenerator}


class LabelGenerationCallback(TrainerCallback):
    """
    Tells a label generator when epochs begin and end, puts its state into every checkpoint and takes it out again, and
    writes `generated_labels.parquet` (id, epoch, text, audio, vision) after every epoch.

    Args:
        generator (`LabelGenerator`): What to drive.
        log: Called with a dictionary of numbers after each epoch, `Trainer.log` as a rule.
        true_labels (`dict`, *optional*):
            By modality, true unimodal labels (N,) in the generator's order, where the corpus has them: the generated
            ones are then scored against them.
    """

    def __init__(self, generator: LabelGenerator, log, true_labels: dict[str, np.ndarray] | None = None):
        self.generator = generator
        self.log = log
        self.true_labels = true_labels or {}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step > 0:
            checkpoint = args.resume_from_checkpoint
            if not isinstance(checkpoint, str):
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.generator.load(Path(checkpoint) / STATE_FILE)

    def on_epoch_begin(self, args, state, control, **kwargs):
        done = state.epoch or 0.0
        self.generator.start_epoch(int(done) + 1, resumed=done != int(done))

    def on_epoch_end(self, args, state, control, **kwargs):
        self.generator.record(self.generator.epoch)
        wanted = control.should_log
        self.log(self.scores())
        control.should_log = wanted  # logging resets it, and the epoch's training loss is still to be logged
        if state.is_world_process_zero:
            with whole_file(Path(args.output_dir) / HISTORY_FILE) as temporary:
                pq.write_table(self.generator.history_table(), temporary)

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.generator.save(Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE)

    def scores(self) -> dict[str, float]:
        return label_scores(self.generator, self.true_labels)


def label_scores(generator: LabelGenerator, true_labels: dict[str, np.ndarray]) -> dict[str, float]:
    """
    By modality: `label_shift`, the mean distance of the generated labels from the multimodal ones; where true unimodal
    labels are known, `label_corr`, the generated labels' correlation with them, and `label_shift_corr`, that of the
    shifts: of what was generated beyond the multimodal label with what is true beyond it, 0 where nothing was found
    out. NaN where a side is constant, as before the second epoch.
    """
    scores = {}
    m_labels = generator.m_labels[:-1].cpu().numpy()
    for modality in generator.modalities:
        generated = generator.labels[modality][:-1].cpu().numpy()
        scores[f"{modality}_label_shift"] = float(np.abs(generated - m_labels).mean())
        if modality in true_labels:
            true = np.asarray(true_labels[modality], np.float64)
            scores[f"{modality}_label_corr"] = _correlation(generated, true)
            scores[f"{modality}_label_shift_corr"] = _correlation(generated - m_labels, true - m_labels)
    return scores


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])

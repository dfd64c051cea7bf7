"""One trainer for all architectures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.optim import Adam
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from training.label_callback import LabelGenerationCallback
from training.label_generation import LabelGenerator
from training.modality_dropout import drop_modalities
from training.optimizer import parameter_groups
from training.sampler import BucketSampler
from training.streaming import StreamedRows

MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}


class MultimodalTrainer(Trainer):
    """
    `transformers.Trainer` with a recipe's optimiser groups, an order of samples that survives resuming, and unimodal
    label generation.

    A callback never sees batches or outputs. The label generator is therefore fed in `compute_loss`, after the loss was
    computed with the labels as they stood; `LabelGenerationCallback` has what belongs to epochs, logs and checkpoints.

    Args:
        optimizer_settings (`dict`): A recipe's `optimizer` section.
        modality_dropout (`float`): How often a modality of a training sample is hidden; see `drop_modalities`.
        label_generator (`LabelGenerator`, *optional*): Makes the unimodal labels.
        true_labels (`dict`, *optional*): The corpus' own unimodal labels, to score the generated ones against.
    """

    def __init__(
        self,
        *args,
        optimizer_settings: dict[str, Any] | None = None,
        modality_dropout: float = 0.0,
        label_generator: LabelGenerator | None = None,
        true_labels: dict[str, np.ndarray] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.train_sampler: BucketSampler | None = None
        self.optimizer_settings = optimizer_settings or {}
        self.modality_dropout = modality_dropout
        self.frozen = frozen_modules(self.model)
        self.label_generator = label_generator
        self.add_callback(_SamplerEpoch(self))
        if label_generator is not None:
            self.add_callback(LabelGenerationCallback(label_generator, self.log, true_labels))

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        # The label generator's callback finds its state by it.
        self.args.resume_from_checkpoint = resume_from_checkpoint
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            optimized = self.model if model is None else model
            assert optimized is not None  # Trainer's own type admits None until training starts
            groups = parameter_groups(
                optimized,
                self.optimizer_settings,
                self.args.learning_rate,
                self.args.weight_decay,
            )
            if self.optimizer_settings.get("name", "adam") == "adam":
                betas = (self.args.adam_beta1, self.args.adam_beta2)
                # One pass over parameters instead of several: on a CPU a fifth of the time per step.
                fused = next(optimized.parameters()).device.type in ("cpu", "cuda")
                self.optimizer = Adam(groups, betas=betas, eps=self.args.adam_epsilon, fused=fused)
            else:
                optimizer_class, keywords = self.get_optimizer_cls_and_kwargs(self.args)
                self.optimizer = optimizer_class(groups, **keywords)
        return self.optimizer

    def _get_train_sampler(self, train_dataset=None):
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        strategy = self.args.train_sampling_strategy
        if strategy not in ("random", "group_by_length"):
            return super()._get_train_sampler(train_dataset)
        self.train_sampler = BucketSampler(
            len(train_dataset),
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            lengths=train_dataset[self.args.length_column_name][:] if strategy == "group_by_length" else None,
            batch_size=self.args.train_batch_size * self.args.world_size,
        )
        return self.train_sampler

    def _get_eval_sampler(self, eval_dataset):
        # Bucketing would return predictions in another order than the rows.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        ids = inputs.pop("id")
        inputs.pop("references", None)
        if model.training:
            inputs = drop_modalities(inputs, MASKS, self.modality_dropout)
            for module in self.frozen:  # what is not trained is used as it is, without dropout
                module.eval()
        generator = self.label_generator if model.training else None
        if generator is not None:
            rows = generator.rows(ids)
            device = inputs["labels"].device
            inputs |= {f"{modality}_labels": labels.to(device) for modality, labels in generator.targets(rows).items()}
        outputs = model(**inputs)
        if generator is not None:
            self._update_labels(generator, rows, inputs, outputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def _update_labels(self, generator: LabelGenerator, rows, inputs, outputs) -> None:
        states = {name: outputs[f"{name}_state"].detach().float() for name in ("fusion", *generator.modalities)}
        present = {}
        for modality in generator.modalities:
            mask = inputs.get(MASKS[modality])
            missing = torch.zeros(len(rows), dtype=torch.bool, device=outputs.logits.device)
            present[modality] = missing if mask is None else mask.bool().any(dim=1)
        if self.accelerator.num_processes > 1:  # every process keeps the same labels and centres
            rows, states, present = self.accelerator.gather((rows.to(outputs.logits.device), states, present))
        generator.update(
            rows.to(generator.device),
            {name: state.to(generator.device) for name, state in states.items()},
            {modality: mask.to(generator.device) for modality, mask in present.items()},
        )

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        if prediction_loss_only:
            return loss.detach(), None, None
        return loss.detach(), outputs.logits.detach().float(), inputs["references"]


def frozen_modules(model) -> list[torch.nn.Module]:
    """The largest parts of a model none of whose parameters is trained."""
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        return [model]
    return [module for child in model.children() for module in frozen_modules(child)]


class _SamplerEpoch(TrainerCallback):
    """
    Tells the sampler, or streamed rows, their epoch: behind the wrappers of an epoch resumed on several processes
    nobody else does.
    """

    def __init__(self, trainer: MultimodalTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        for ordered in (self.trainer.train_sampler, self.trainer.train_dataset):
            if isinstance(ordered, (BucketSampler, StreamedRows)):
                ordered.set_epoch(int(state.epoch or 0))

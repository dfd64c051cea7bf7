"""One trainer for all architectures."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from accelerate import DistributedType
from accelerate.data_loader import IterableDatasetShard
from torch.distributed.tensor import DTensor
from torch.optim import Adam
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from training.global_batch import SameGlobalBatch, Share, filled, first_rows, real_rows, shares
from training.label_callback import LabelGenerationCallback
from training.label_generation import LabelGenerator
from training.memory import memory_for
from training.modality_dropout import drop_modalities
from training.nonfinite import FiniteLoss
from training.optimizer import parameter_groups
from training.sampler import BucketSampler
from training.streaming import StreamedRows
from training.whole_checkpoints import KeptLoss, WholeCheckpoints

WHOLE_GRADIENTS = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)  # in every process
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}


class MultimodalTrainer(Trainer):
    """
    `transformers.Trainer` with a recipe's optimiser groups, an order of samples that survives resuming, and unimodal
    label generation.

    On several processes it gives what one process with as large a batch gives: samples that fill an epoch's last batch
    up count for nothing, and the loss of a step is the mean over its samples, however they are shared among processes
    and accumulated batches. But what an architecture computes from a batch as a whole (normalisation, a loss that
    compares samples, a mean over those that have a modality) is computed from one process's batch;
    recipes/accelerate/README.md names those that do.

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
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" and not self.is_fsdp_enabled:
            raise ValueError(
                "The launcher's configuration asks for FSDP, but Accelerate shards models in several processes on GPUs "
                f"(or their like) only; this is process {self.accelerator.process_index} of "
                f"{self.accelerator.num_processes} on {self.accelerator.device}. Launch it without FSDP."
            )
        model: Any = self.model
        self.model_class: Any = type(model)  # sharding changes it
        # Set by the trainer, and of no meaning for these models: a checkpoint would tell whether it was trained here.
        vars(model.config).pop("use_cache", None)
        self.train_sampler: BucketSampler | None = None
        self.optimizer_settings = optimizer_settings or {}
        self.modality_dropout = modality_dropout
        self.frozen = frozen_modules(model)
        self.label_generator = label_generator
        self._of_step: list[tuple[torch.Tensor, torch.Tensor]] = []  # what the label generator gets at the step's end
        self.finite = FiniteLoss(self.accelerator)
        self.checkpoints = WholeCheckpoints(self.accelerator)
        self.kept_loss = KeptLoss(self)
        self.add_callback(self.kept_loss)
        self.add_callback(self.finite)
        self.add_callback(_SamplerEpoch(self))
        self.add_callback(_WholeEpochs())
        if label_generator is not None:
            self.add_callback(LabelGenerationCallback(label_generator, self.log, true_labels))
        self.add_callback(self.checkpoints)  # the last: it says that a checkpoint is whole

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        if resume_from_checkpoint and self.args.save_only_model:  # the library would begin with a new optimiser
            raise ValueError(
                f"`training.save_only_model` is true, so that {resume_from_checkpoint} has no state of the optimiser: "
                "the run cannot go on as it was. Train anew in another folder."
            )
        # The label generator's callback finds its state by it.
        self.args.resume_from_checkpoint = resume_from_checkpoint
        self._of_step.clear()
        self.remove_callback(SameGlobalBatch)
        self.add_callback(
            SameGlobalBatch(
                self.get_total_train_batch_size(self.args),
                self.accelerator.num_processes,
                self.args.gradient_accumulation_steps,
            )
        )
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def trained_model(self):
        """The model without what several processes put around it, whole in every process."""
        model = self.accelerator.unwrap_model(self.model)
        if not self.is_fsdp_enabled:
            return model
        whole = self.model_class(model.config)
        tensors = model.state_dict().items()
        whole.load_state_dict(
            {name: (part.full_tensor() if isinstance(part, DTensor) else part).cpu() for name, part in tensors}
        )
        return whole.to(self.args.device)

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
            batch_size=self.get_total_train_batch_size(self.args),
        )
        return self.train_sampler

    def _get_eval_sampler(self, eval_dataset):
        # Bucketing would return predictions in another order than the rows.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def _get_dataloader(self, dataset, *args, **kwargs):
        if isinstance(dataset, StreamedRows) and self.args.dataloader_num_workers > 1:
            raise ValueError(
                "`training.dataloader_num_workers` must be 0 or 1 where rows are streamed; got "
                f"{self.args.dataloader_num_workers}. Each worker would end in a short batch of its own, and the "
                "epoch's last samples would be left out."
            )
        return super()._get_dataloader(dataset, *args, **kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, items
        of_step = shares(
            [len(batch["id"]) for batch in batches],
            len(self.train_dataset),  # type: ignore[arg-type]
            self.accelerator.gradient_state.end_of_dataloader and not self.args.dataloader_drop_last,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        return [
            {**first_rows(batch, share.rows), "share": share} for batch, share in zip(batches, of_step, strict=True)
        ], items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        ids = inputs.pop("id")
        share = inputs.pop("share", None) or Share(len(ids), len(ids), weight=1.0, last=True)
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
            self._update_labels(generator, rows, inputs, outputs, share)
        loss = outputs.loss * share.weight
        if model.training:
            self.finite.add_loss(self, ids, inputs, loss)
        return (loss, outputs) if return_outputs else loss

    def _update_labels(self, generator: LabelGenerator, rows, inputs, outputs, share: Share) -> None:
        """Gives the generator a step's representations at once, in every process those of all processes."""
        device, tasks = outputs.logits.device, ("fusion", *generator.modalities)
        states = [outputs[f"{task}_state"].detach().float() for task in tasks]
        widths = [state.shape[1] for state in states]
        no_sample = len(generator.ids)
        numbers = [filled(rows.to(device), share.rows, share.slots, no_sample)]
        for modality in generator.modalities:
            mask = inputs.get(MASKS[modality])
            present = torch.zeros(len(rows), device=device) if mask is None else mask.bool().any(dim=1)
            numbers.append(filled(present.long(), share.rows, share.slots))
        self._of_step.append((torch.stack(numbers, dim=1), filled(torch.cat(states, dim=1), share.rows, share.slots)))
        if not share.last:
            return
        of_step = tuple(torch.cat(parts) for parts in zip(*self._of_step, strict=True))
        self._of_step.clear()
        if self.accelerator.num_processes > 1:
            of_step = self.accelerator.gather(of_step)
        every_number, every_state = (tensor.to(generator.device) for tensor in of_step)
        generator.update(
            every_number[:, 0].contiguous(),
            dict(zip(tasks, every_state.split(widths, dim=1), strict=True)),
            dict(zip(generator.modalities, every_number[:, 1:].bool().unbind(dim=1), strict=True)),
        )

    def training_step(self, model, inputs, *args, **kwargs):
        with memory_for(inputs):
            return super().training_step(model, inputs, *args, **kwargs)

    def _get_grad_norm(self, model, grad_norm=None):
        if grad_norm is None and self.accelerator.distributed_type in WHOLE_GRADIENTS:
            # Without clipping the library clips at infinity, which multiplies every gradient by one.
            self.accelerator.unscale_gradients()
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            grad_norm = torch.nn.utils.get_total_norm(gradients)
        norm = super()._get_grad_norm(model, grad_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.finite.add_gradient_norm(self, norm)
        return norm

    def _save_checkpoint(self, *args, **kwargs):
        self.kept_loss.measure()
        with self.checkpoints.writing(self.args, self.state.global_step):
            super()._save_checkpoint(*args, **kwargs)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        slots = len(inputs["id"])
        rows = self._evaluated_rows(slots)
        with torch.no_grad(), self.compute_loss_context_manager(), memory_for(inputs):
            loss, outputs = self.compute_loss(model, first_rows(inputs, rows), return_outputs=True)
        if prediction_loss_only:
            return loss.detach(), None, None
        logits = outputs.logits.detach().float()
        return loss.detach(), filled(logits, rows, slots), filled(inputs["references"], rows, slots)

    def _evaluated_rows(self, slots: int) -> int:
        """Rows of the batch that is evaluated now that fill it up are left out, of its loss, too."""
        state, processes = self.accelerator.gradient_state, self.accelerator.num_processes
        if processes == 1 or not state.end_of_dataloader or self.args.dataloader_drop_last:
            return slots
        loader: Any = self.callback_handler.eval_dataloader
        dataset = loader.dataset
        samples = len(dataset.dataset if isinstance(dataset, IterableDatasetShard) else dataset)
        # What is gathered is cut to this by Accelerate, which does not know the number of streamed rows.
        state.active_dataloader.remainder = samples % (slots * processes)
        return real_rows(samples, slots, self.accelerator.process_index, processes)


def frozen_modules(model) -> list[torch.nn.Module]:
    """The largest parts of a model none of whose parameters is trained."""
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        return [model]
    return [module for child in model.children() for module in frozen_modules(child)]


class _WholeEpochs(TrainerCallback):
    """
    Puts what is due after the last step of an epoch off until its end. A checkpoint from in between would say that the
    epoch is over, and a run that goes on with it would lack what the epoch's end logs.
    """

    def __init__(self):
        self.evaluate = self.save = False

    def on_step_end(self, args, state, control, **kwargs):
        if state.epoch is not None and state.epoch == int(state.epoch):
            self.evaluate, self.save = control.should_evaluate, control.should_save
            control.should_evaluate = control.should_save = False

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_evaluate |= self.evaluate
        control.should_save |= self.save
        self.evaluate = self.save = False


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

"""The trainer with a tiny Self-MM on a tiny synthetic corpus: steps, labels, checkpoints."""

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from tests.training.tiny_training import MODALITIES, TRAIN, Setting, parameters
from training.factory import model_of_stage
from training.label_callback import STATE_FILE
from training.mapped_rows import MappedRows
from training.prediction import predict_rows
from training.recipe import Stage
from training.sampler import BucketSampler
from training.trainer import MASKS, MultimodalTrainer, frozen_modules


@pytest.fixture(scope="module")
def setting():
    return Setting()


def state_of(generator):
    """A copy of everything that the generator keeps."""
    tensors = {"updated_in": generator.updated_in, **{f"labels.{m}": v for m, v in generator.labels.items()}}
    for name, space in generator.spaces.items():
        tensors |= {f"{name}.{key}": value for key, value in space.state().items()}
    return generator.epoch, sorted(generator.history), {name: value.clone() for name, value in tensors.items()}


def assert_same_state(first, second):
    assert first[:2] == second[:2] and set(first[2]) == set(second[2])
    for name, value in first[2].items():
        assert torch.equal(value, second[2][name]), name


def unlike(generator, seed=0):
    """Gives the unimodal labels values other than the multimodal ones, so that their tasks have weight."""
    random = torch.Generator().manual_seed(seed)
    for labels in generator.labels.values():
        labels += torch.randn(labels.shape, generator=random, dtype=labels.dtype)


# Steps


@pytest.mark.parametrize("accumulated", [4, 2])
def test_accumulation_equals_a_large_batch(setting, tmp_path, accumulated):
    """With plain gradient descent, which a missing or a double division would show, and unimodal tasks with weight."""
    results = []
    for batch, steps in ((8, 1), (8 // accumulated, accumulated)):
        generator = setting.generator()
        unlike(generator)
        trainer = setting.trainer(
            tmp_path / str(steps),
            generator,
            optimizer={"name": "training"},
            **{"optim": "sgd", "learning_rate": 0.5, "max_steps": 1, "train_sampling_strategy": "random"},
            **{"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "save_strategy": "no"},
        )
        trainer.train()
        assert trainer.state.global_step == 1
        results.append((parameters(trainer.model), state_of(generator)))
    start = parameters(setting.model())
    moved = max((results[0][0][name] - start[name]).abs().max().item() for name in start)
    assert moved > 0.05
    for name, value in results[0][0].items():
        torch.testing.assert_close(
            results[1][0][name], value, rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )
    for name, value in results[0][1][2].items():  # first epoch: the same representations, the same labels
        torch.testing.assert_close(results[1][1][2][name], value, rtol=0, atol=1e-5)


def test_unimodal_tasks_have_weight_in_that_comparison(setting, tmp_path):
    """Otherwise the test above would not see them."""
    steps = []
    for changed in (True, False):
        generator = setting.generator()
        if changed:
            unlike(generator)
        trainer = setting.trainer(tmp_path / str(changed), generator, max_steps=1, save_strategy="no")
        trainer.train()
        start = parameters(setting.model())
        steps.append(
            {name: (value - start[name]).abs().max().item() for name, value in parameters(trainer.model).items()}
        )
    for modality in MODALITIES:
        assert steps[0][f"heads.{modality}.space.weight"] > 0
        assert steps[1][f"heads.{modality}.space.weight"] == 0  # weight tanh 0 in the first epoch


def test_optimizer(setting, tmp_path):
    settings = {"text_encoder": {"learning_rate": 1e-4, "weight_decay": 0.1}, "rest": {"learning_rate": 1e-3}}
    trainer = setting.trainer(tmp_path, optimizer=settings, adam_beta1=0.8, adam_epsilon=1e-6, weight_decay=0.02)
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is torch.optim.Adam  # decay is added to the gradient, as in the papers
    assert {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {
        (1e-4, 0.1), (1e-4, 0.0), (1e-2, 0.02), (1e-3, 0.02),
    }  # fmt: skip
    assert all(group["betas"] == (0.8, 0.999) and group["eps"] == 1e-6 for group in optimizer.param_groups)
    trainer = setting.trainer(tmp_path, optimizer={**settings, "name": "training"}, optim="adamw_torch")
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is torch.optim.AdamW
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4, 1e-2, 1e-3}


def test_order_of_samples(setting, tmp_path):
    """From the seed, or from `data_seed` where it is given; by length if the recipe wants it."""
    sampler = setting.trainer(tmp_path)._get_train_sampler()
    assert isinstance(sampler, BucketSampler) and (sampler.seed, sampler.batch_size, len(sampler)) == (3, 5, TRAIN)
    assert sampler.lengths.tolist() == [len(row["input_ids"]) for row in setting.splits["train"]]
    sampler = setting.trainer(tmp_path, data_seed=0, train_sampling_strategy="random")._get_train_sampler()
    assert (sampler.seed, sampler.lengths) == (0, None)
    sampler = setting.trainer(tmp_path, train_sampling_strategy="sequential")._get_train_sampler()
    assert list(sampler) == list(range(TRAIN))


def expected_loss(outputs, labels, unimodal, present):
    """Equation 10, sample by sample."""
    total = 0.0
    for i, y_m in enumerate(labels.tolist()):
        total += abs(outputs.logits[i].item() - y_m)
        for m in MODALITIES:
            if present[m][i]:
                y_s = unimodal[m][i].item()
                total += np.tanh(abs(y_s - y_m)) * abs(outputs[f"{m}_logits"][i].item() - y_s)
    return total / len(labels)


class Spy(MultimodalTrainer):
    """Notes, for every loss, the labels before and after, and the loss that those before give."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if model.training:
            rows = self.label_generator.rows(inputs["id"])
            masks = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
            none = torch.zeros(len(rows), 1)
            present = {m: inputs.get(name, none).bool().any(dim=1) for m, name in masks.items()}
            now = {m: labels.clone() for m, labels in self.label_generator.labels.items()}
            self.notes.append(
                {
                    "epoch": self.label_generator.epoch,
                    "loss": loss.item(),
                    "expected": expected_loss(outputs, inputs["labels"], {m: self.last[m][rows] for m in now}, present),
                    "changed": {m: (now[m] != self.last[m]).nonzero().flatten().tolist() for m in now},
                    "rows": rows.tolist(),
                    "present": {m: rows[present[m]].tolist() for m in now},
                    "events": list(self.events),
                    "states": {name: outputs[f"{name}_state"].detach() for name in ("fusion", *now)},
                }
            )
            self.last = now
            self.events.clear()
        return (loss, outputs) if return_outputs else loss

    def watch(self, monkeypatch):
        self.notes, self.events = [], []
        generator = self.label_generator
        self.last = {m: labels.clone() for m, labels in generator.labels.items()}
        for name, owner in (("targets", generator), ("update", generator), ("forward", self.model)):
            monkeypatch.setattr(owner, name, self.noting(name, getattr(owner, name)))

    def noting(self, name, method):
        def call(*args, **kwargs):
            if name != "forward" or self.model.training:
                self.events.append(name)
            return method(*args, **kwargs)

        return call


def test_loss_uses_the_labels_as_they_stood_before_the_step(setting, tmp_path, monkeypatch):
    generator = setting.generator()
    trainer = setting.trainer(tmp_path, generator, trainer_class=Spy, save_strategy="no")
    trainer.watch(monkeypatch)
    trainer.train()
    assert [note["epoch"] for note in trainer.notes] == [1] * 5 + [2] * 5 + [3] * 5
    for note in trainer.notes:
        assert note["events"] == ["targets", "forward", "update"]
        assert note["loss"] == pytest.approx(note["expected"], rel=1e-5)
        for m in MODALITIES:
            assert note["changed"][m] == ([] if note["epoch"] == 1 else sorted(note["present"][m]))
    assert all(not torch.equal(generator.labels[m], generator.m_labels) for m in MODALITIES)
    rows = np.array([row for note in trainer.notes for row in note["rows"]]).reshape(3, TRAIN)
    assert (np.sort(rows, axis=1) == np.arange(TRAIN)).all()
    last = trainer.notes[-1]
    for name, states in last["states"].items():  # what the generator keeps is what the forward pass gave
        kept = [i for i, row in enumerate(last["rows"]) if name == "fusion" or row in last["present"][name]]
        stored = generator.spaces[name].features[[last["rows"][i] for i in kept]]
        assert torch.equal(stored, states[kept])


def test_evaluation_changes_no_label(setting, tmp_path):
    generator = setting.generator()
    trainer = setting.trainer(tmp_path, generator, num_train_epochs=2, save_strategy="no")
    trainer.train()
    before = state_of(generator)
    for split in ("train", "valid", "test"):
        trainer.evaluate(setting.splits[split])
        trainer.predict(setting.splits[split])
    predict_rows(trainer.model, setting.processor, setting.splits["train"])
    assert_same_state(state_of(generator), before)


def test_evaluation_between_steps_does_not_change_training(setting, tmp_path):
    results = []
    for strategy in ({"eval_strategy": "no"}, {"eval_strategy": "steps", "eval_steps": 1}):
        generator = setting.generator()
        trainer = setting.trainer(tmp_path / strategy["eval_strategy"], generator, save_strategy="no", **strategy)
        trainer.train()
        results.append((parameters(trainer.model), state_of(generator)))
    assert_same_state(results[0][1], results[1][1])
    assert all(torch.equal(value, results[1][0][name]) for name, value in results[0][0].items())


def test_evaluation_loss_is_that_of_the_multimodal_task(setting, tmp_path):
    generator = setting.generator()
    unlike(generator)
    trainer = setting.trainer(tmp_path, generator)
    result = trainer.predict(setting.splits["train"])
    error = np.abs(result.predictions[:, 0] - result.label_ids).mean()
    assert result.metrics["test_loss"] == pytest.approx(error, rel=1e-5)
    assert sorted(result.label_ids.tolist()) == sorted(setting.splits["train"]["label"][:].tolist())


def test_predictions_come_in_the_order_of_the_rows(setting, tmp_path):
    """`trainer.predict` has no ids in what it returns: only the order says which prediction is whose."""
    trainer, rows = setting.trainer(tmp_path), setting.splits["test"]
    result = trainer.predict(rows)
    assert result.label_ids.tolist() == rows["label"][:].tolist()
    table = predict_rows(trainer.model, setting.processor, rows)
    np.testing.assert_allclose(result.predictions[:, 0], table["prediction"].to_numpy(), atol=1e-5)


def test_training_loss_is_logged_beside_the_labels_scores(setting, tmp_path):
    trainer = setting.trainer(tmp_path, setting.generator(), save_strategy="no")
    trainer.train()
    epochs = {}
    for entry in trainer.state.log_history:
        epochs.setdefault(entry["epoch"], set()).update(entry)
    assert sorted(epochs) == [1.0, 2.0, 3.0]
    for found in epochs.values():
        assert {"loss", "eval_loss", *(f"{m}_label_shift" for m in MODALITIES)} <= found


def test_sample_of_another_corpus_is_refused(setting, tmp_path):
    trainer = setting.trainer(tmp_path, setting.generator())
    trainer.train_dataset = setting.splits["valid"]
    with pytest.raises(ValueError, match="valid.*not in the training split"):
        trainer.train()


# Checkpoints


def test_labels_of_checkpoints(setting, tmp_path):
    generator = setting.generator()
    trainer = setting.trainer(tmp_path, generator, per_device_train_batch_size=8)
    trainer.train()
    for epoch in (1, 2, 3):
        loaded = setting.generator()
        loaded.load(tmp_path / f"checkpoint-{3 * epoch}" / STATE_FILE)
        assert loaded.epoch == epoch and sorted(loaded.history) == list(range(1, epoch + 1))
        for index, m in enumerate(MODALITIES):
            assert torch.equal(loaded.history[epoch][:, index], loaded.labels[m][:-1].float())
            assert torch.equal(loaded.history[epoch][:, index], generator.history[epoch][:, index])
    assert_same_state(state_of(loaded), state_of(generator))
    assert not torch.equal(generator.history[2], generator.history[3])


class StopAfter(TrainerCallback):
    """Ends training after a step, as an interruption would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_resumed_run_equals_an_unbroken_one(setting, tmp_path, strategy, stop):
    """Within the first epoch and the second, and between them; two batches a step, in an epoch's last step one."""
    results = []
    training = {
        **{"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no", "train_sampling_strategy": strategy},
        **{"per_device_train_batch_size": 5, "gradient_accumulation_steps": 2},
    }
    for resumed in (False, True):
        folder, generator = tmp_path / str(resumed), setting.generator()
        if resumed:
            first = setting.trainer(folder, setting.generator(), **training)
            first.add_callback(StopAfter(stop))
            first.train()
            training["resume_from_checkpoint"] = str(folder / f"checkpoint-{stop}")
        trainer = setting.trainer(folder, generator, **training)
        trainer.train(resume_from_checkpoint=training.get("resume_from_checkpoint"))
        assert trainer.state.global_step == 9
        results.append((parameters(trainer.model), state_of(generator), generator.history_table()))
    assert_same_state(results[0][1], results[1][1])
    assert results[0][2].equals(results[1][2])
    assert all(torch.equal(value, results[1][0][name]) for name, value in results[0][0].items())


def test_checkpoint_may_be_named_in_the_call_alone(setting, tmp_path):
    """`trainer.train(resume_from_checkpoint=...)`, into another folder than the run that wrote it."""
    setting.trainer(tmp_path / "first", setting.generator(), num_train_epochs=2, per_device_train_batch_size=8).train()
    generator = setting.generator()
    trainer = setting.trainer(tmp_path / "second", generator, num_train_epochs=3, per_device_train_batch_size=8)
    trainer.train(resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-6"))
    assert sorted(generator.history) == [1, 2, 3]


# Precision


def test_bf16_trains(setting, tmp_path):
    generator = setting.generator()
    trainer = setting.trainer(tmp_path, generator, bf16=True, save_strategy="no")
    trainer.train()
    losses = [value for entry in trainer.state.log_history for name, value in entry.items() if name.endswith("loss")]
    assert len(losses) >= 4 and np.isfinite(losses).all() and max(losses) > 0
    start = parameters(setting.model())
    for value in parameters(trainer.model).values():
        assert value.dtype == torch.float32 and value.isfinite().all()
    assert not torch.equal(trainer.model.heads["fusion"].space.weight, start["heads.fusion.space.weight"])
    for m in MODALITIES:
        assert generator.labels[m].dtype == torch.float64 and generator.labels[m].isfinite().all()
        assert not torch.equal(generator.labels[m], generator.m_labels)
        assert generator.spaces[m].features.dtype == torch.float32
    # Representations did come in half precision: float32 values that fit into bfloat16.
    features = generator.spaces["fusion"].features
    assert torch.equal(features, features.bfloat16().float()) and features.abs().max() > 0


# Modality dropout


class Masks(MultimodalTrainer):
    """Notes which modalities each sample of a batch has before and after the trainer had it, and the inputs' names."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.notes, forward = [], self.model.forward

        def noting(**inputs):
            self.reached = inputs
            return forward(**inputs)

        self.model.forward = noting

    def compute_loss(self, model, inputs, **kwargs):
        result = super().compute_loss(model, inputs, **kwargs)
        masks = [name for name in MASKS.values() if name in inputs]
        before, after = (torch.stack([x[name].any(dim=1) for name in masks], dim=1) for x in (inputs, self.reached))
        self.notes.append((model.training, before, after, set(inputs) - set(self.reached)))
        return result


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_modality_dropout_is_of_training_alone(setting, tmp_path, share):
    trainer = setting.trainer(
        tmp_path, trainer_class=Masks, modality_dropout=share, save_strategy="no", eval_strategy="epoch"
    )
    trainer.train()
    trainer.predict(setting.splits["test"])
    hidden = {
        training: sum(int((before & ~after).sum()) for mode, before, after, _ in trainer.notes if mode == training)
        for training in (True, False)
    }
    assert hidden[False] == 0 and (hidden[True] > 20 if share else hidden[True] == 0)
    assert len(trainer.notes) == 3 * 5 + 3 + 4
    for _, before, after, unread in trainer.notes:
        assert not (after & ~before).any() and torch.equal(after.any(dim=1), before.any(dim=1))
        assert unread - {"share"} == {"id", "references"}  # none is an argument of forward


def test_hidden_modalities_get_no_new_labels(setting, tmp_path):
    """What the model did not see is no evidence: as with a modality that the sample lacks, the label stays."""
    updated = {}
    for share in (0.0, 0.9):
        generator = setting.generator()
        setting.trainer(tmp_path, generator, modality_dropout=share, num_train_epochs=2, save_strategy="no").train()
        changed = {m: (generator.labels[m] != generator.m_labels)[:-1] for m in MODALITIES}
        updated[share] = sum(int(rows.sum()) for rows in changed.values())
    assert 0 < updated[0.9] < 0.6 * updated[0.0]


def test_resumed_run_with_modality_dropout_equals_an_unbroken_one(setting, tmp_path):
    training = {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "no", "per_device_train_batch_size": 8}
    training["num_train_epochs"] = 2
    results = []
    for resumed in (False, True):
        folder, generator, checkpoint = tmp_path / str(resumed), setting.generator(), None
        if resumed:
            first = setting.trainer(folder, setting.generator(), modality_dropout=0.3, **training)
            first.add_callback(StopAfter(4))
            first.train()
            checkpoint = str(folder / "checkpoint-4")
        trainer = setting.trainer(folder, generator, modality_dropout=0.3, **training)
        trainer.train(resume_from_checkpoint=checkpoint)
        results.append((parameters(trainer.model), state_of(generator)))
    assert_same_state(results[0][1], results[1][1])
    assert all(torch.equal(value, results[1][0][name]) for name, value in results[0][0].items())


# Parts that are not trained


def stage(trainable=None, frozen=None):
    return Stage("one", trainable=trainable, frozen=frozen, model={}, training={}, optimizer={})


@pytest.mark.parametrize(
    ("parts", "largest"),
    [
        ({}, []),
        ({"trainable": ["heads", "text_encoder"]}, ["audio_encoder", "vision_encoder"]),
        (
            {"trainable": ["heads.text", "audio_encoder", "vision_encoder", "text_encoder.encoder"]},
            ["heads.audio", "heads.fusion", "heads.vision", "text_encoder.embeddings"],
        ),
        ({"trainable": ["audio_encoder"]}, ["heads", "text_encoder", "vision_encoder"]),
        ({"frozen": ["text_encoder", "heads.audio"]}, ["heads.audio", "text_encoder"]),
    ],
    ids=str,
)
def test_frozen_modules(setting, parts, largest):
    """The largest whole parts, none twice; a part of which something is trained is not among them."""
    model = model_of_stage(setting.model(), stage(**parts))
    names = {id(module): name for name, module in model.named_modules()}
    assert sorted(names[id(module)] for module in frozen_modules(model)) == largest


def test_a_model_of_which_nothing_is_trained(setting):
    model = setting.model().requires_grad_(False)
    assert frozen_modules(model) == [model]


class Modes(MultimodalTrainer):
    """Notes, at every forward pass in training, which modules are in training mode, and what the text encoder says."""

    def compute_loss(self, model, inputs, **kwargs):
        result = super().compute_loss(model, inputs, **kwargs)
        if self.model.training:
            self.modes.append({name for name, module in self.model.named_modules() if module.training})
            self.ids += inputs["id"]
        return result


def test_frozen_parts_run_without_dropout(setting, tmp_path):
    """They give the same in every epoch, and keep their weights; an evaluation between does not change that."""
    model = setting.model(tasks=["M"], fusion_dropout=0.5)
    for module in model.text_encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model = model_of_stage(model, stage(frozen=["text_encoder"]))
    seen = []
    model.text_encoder.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state))
    trainer = setting.trainer(
        tmp_path, model=model, trainer_class=Modes, save_strategy="no", eval_strategy="steps", eval_steps=2
    )
    trainer.modes, trainer.ids, start = [], [], parameters(model)
    trainer.train()
    assert len(trainer.modes) == 15 and sorted(set(trainer.ids)) == sorted(setting.splits["train"]["id"][:])
    for modes in trainer.modes:
        assert {"", "heads", "heads.fusion", "audio_encoder"} <= modes
        assert not [name for name in modes if name.startswith("text_encoder")]
    for name, value in parameters(trainer.model).items():
        assert torch.equal(value, start[name]) == name.startswith("text_encoder"), name
    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in model.parameters() if p.requires_grad}
    row = setting.splits["train"][0]
    first = {"input_ids": torch.tensor([row["input_ids"].tolist()])}
    trainer.model.train()
    trainer.compute_loss(trainer.model, {**first, "id": [row["id"]], "labels": torch.zeros(1)})
    trainer.model.eval()
    trainer.model(**first)
    assert torch.equal(seen[-1], seen[-2])


# Predictions


def test_prediction_table_equals_row_by_row(setting):
    model, rows = setting.model(fusion_dropout=0.5, text_dropout=0.5).train(), setting.splits["test"]
    table = predict_rows(model, setting.processor, rows, batch_size=7)
    assert model.training  # as it was
    assert table.column_names == ["id", "label", "prediction", *(f"{m}_prediction" for m in MODALITIES)]
    assert table["id"].to_pylist() == list(rows["id"][:])
    assert table["label"].to_pylist() == [float(label) for label in rows["label"][:]]
    model.eval()
    lacking = dict.fromkeys(MODALITIES, 0)
    for row, found in zip(rows, table.to_pylist(), strict=True):
        inputs = {
            "input_ids": torch.tensor([row["input_ids"].tolist()]) if len(row["input_ids"]) else None,
            "audio_values": torch.from_numpy(row["audio_values"])[None] if len(row["audio_values"]) else None,
            "vision_values": torch.from_numpy(row["vision_values"])[None] if len(row["vision_values"]) else None,
        }
        with torch.no_grad():
            outputs = model(**inputs)
        assert found["prediction"] == pytest.approx(outputs.logits.item(), abs=1e-5)
        for m, values in zip(MODALITIES, inputs.values(), strict=True):
            if values is None:
                lacking[m] += 1
                assert found[f"{m}_prediction"] is None
            else:
                assert found[f"{m}_prediction"] == pytest.approx(outputs[f"{m}_logits"].item(), abs=1e-5)
    assert all(0 < count < 30 for count in lacking.values())
    assert len(set(table["prediction"].to_pylist())) > 20


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_prediction_table_does_not_depend_on_the_batch_size(setting, batch_size):
    model, rows = setting.model(), setting.splits["test"]
    table, other = (predict_rows(model, setting.processor, rows, size) for size in (7, batch_size))
    for name in table.column_names[2:]:
        first, second = (np.array(t[name].to_pylist(), float) for t in (table, other))
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_prediction_table_without_heads_and_without_labels(setting):
    rows = MappedRows(setting.splits["test"].table.remove_columns("label"))
    table = predict_rows(setting.model(tasks=["M", "A"]), setting.processor, rows)
    assert (
        table["label"].null_count == table["text_prediction"].null_count == table["vision_prediction"].null_count == 30
    )
    assert table["audio_prediction"].null_count < 30 and table["prediction"].null_count == 0


def test_training_leaves_no_trace_in_the_configuration(setting, tmp_path):
    """A stage that was finished before is loaded, not trained: its checkpoint would be another."""
    trainer = setting.trainer(tmp_path, setting.generator(), **{"max_steps": 1, "save_strategy": "no"})
    trainer.train()
    assert trainer.model.config.to_dict() == setting.model().config.to_dict()

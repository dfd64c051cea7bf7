"""Training in several processes gives what one process with the same global batch gives."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import MODEL_MAPPING, AutoModel

import train as train_program
from modeling import EfLstmModel
from tests.conftest import TINY_RECIPE
from tests.layouts import make_rows, write_prepared
from tests.test_modeling_common import BERT, FEATURES, MAIN, make_config
from tests.training.processes import in_processes, shard_on_cpu
from tests.training.tiny_training import MODALITIES, TRAIN, Setting, parameters
from training.factory import model_of_stage
from training.global_batch import SameGlobalBatch, Share, check_processes, filled, first_rows, real_rows, shares
from training.mapped_rows import MappedRows
from training.recipe import Stage
from training.streaming import StreamedRows
from training.trainer import MultimodalTrainer

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "recipes" / "accelerate"
SGD = {"name": "training", "text_encoder": {"learning_rate": 0.02}}


# Which rows count


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_rows_that_count_are_those_that_accelerate_did_not_repeat(processes, size):
    for samples in range(1, 30):
        batches = BatchSampler(SequentialSampler(range(samples)), size, drop_last=False)
        counted = []
        for process in range(processes):
            *full, last = list(BatchSamplerShard(batches, processes, process))
            assert all(len(batch) == size for batch in full)
            rows = real_rows(samples, len(last), process, processes)
            counted += [*itertools.chain.from_iterable(full), *last[:rows]]
        assert sorted(counted) == list(range(samples))


@pytest.mark.parametrize(("processes", "accumulated"), [(1, 1), (2, 1), (2, 3), (3, 2)])
def test_weighted_means_are_the_mean_over_the_samples_of_a_step(processes, accumulated):
    random, size = np.random.default_rng(0), 4
    for left in range(1, size * processes + 1):
        samples = size * processes * (accumulated - 1) + left
        losses = random.normal(size=(accumulated, processes, size))
        wanted = losses.reshape(-1)[:samples].mean() if processes > 1 else None
        total = 0.0
        for process in range(processes):
            sizes = [size] * accumulated
            if processes == 1:
                sizes[-1] = left
                wanted = np.concatenate([losses[i, 0, :n] for i, n in enumerate(sizes)]).mean()
            for place, share in enumerate(shares(sizes, samples, True, process, processes)):
                assert share.last == (place == accumulated - 1) and share.slots == sizes[place]
                if share.rows:
                    total += share.weight * losses[place, process, : share.rows].mean() / accumulated / processes
                else:
                    assert share.weight == 0
        assert total == pytest.approx(wanted)
    assert shares([4, 4], 11, False, 1, 2) == [Share(4, 4, 1.0, False), Share(4, 4, 1.0, True)]


def test_batches_are_cut_and_tensors_filled():
    batch = {"x": torch.arange(6).reshape(3, 2), "id": ["a", "b", "c"]}
    assert first_rows(batch, 3) is batch
    cut = first_rows(batch, 2)
    assert cut["id"] == ["a", "b"] and cut["x"].tolist() == [[0, 1], [2, 3]]
    assert first_rows(batch, 0)["id"] == ["a"]  # to compute something
    assert filled(batch["x"], 1, 3, 7).tolist() == [[0, 1], [7, 7], [7, 7]]
    assert filled(batch["x"], 0, 1).tolist() == [[0, 0]]


# Processes


class Noting(MultimodalTrainer):
    """Notes which samples count in every batch."""

    def compute_loss(self, model, inputs, **kwargs):
        if model.training:
            self.order.append(inputs["id"][: inputs["share"].rows])
        return super().compute_loss(model, inputs, **kwargs)


def train(folder, strategy, samples, optimizer, training, resume, frozen, sharded):
    """Trains in this process, one of a group; what came of it."""
    if sharded:
        shard_on_cpu()
    setting = Setting()
    if samples:
        setting.splits["train"] = MappedRows(setting.splits["train"].table.select(range(samples)))
    generator = setting.generator(strategy)
    model = setting.model(strategy)
    if frozen:
        model = model_of_stage(model, Stage("one", None, frozen, {}, {}, {}))
    settings = {"optim": "sgd", "learning_rate": 0.02, "eval_strategy": "epoch", "disable_tqdm": True, **training}
    trainer = setting.trainer(folder, generator, model, optimizer, Noting, **settings)
    trainer.order = []
    trainer.train(resume_from_checkpoint=resume)
    logged = trainer.state.log_history
    found = {
        "order": trainer.order,
        "step": trainer.state.global_step,
        "sharded": trainer.is_fsdp_enabled,
        "rates": sorted({group["lr"] for group in trainer.optimizer.param_groups}),
        "losses": [entry[name] for entry in logged for name in ("loss", "eval_loss") if name in entry],
        "generated": {f"labels.{m}": labels.clone() for m, labels in generator.labels.items()},
        "first": generator.history[1],
        "updated_in": generator.updated_in[:-1].clone(),
        "predictions": {},
    }
    for name, space in generator.spaces.items():
        found["generated"] |= {f"{name}.{key}": value.clone() for key, value in space.state().items()}
    for name in ("valid", "test"):
        result = trainer.predict(setting.splits[name])
        found["predictions"] |= {name: result.predictions, f"{name} labels": result.label_ids}
        found["losses"].append(result.metrics["test_loss"])
    found["parameters"] = parameters(trainer.trained_model())
    return found


def run(
    folder,
    processes,
    strategy="self_mm",
    samples=0,
    optimizer=SGD,
    resume=None,
    frozen=None,
    sharded=False,
    **training,
):
    """What `train` found in each of several new processes, by rank."""
    place = folder / f"{processes}-{len(list(folder.iterdir()))}"
    arguments = (str(place / "run"), strategy, samples, optimizer, training, resume, frozen, sharded)
    return [{**found, "run": place / "run"} for found in in_processes(train, processes, place, *arguments)]


def assert_same(found, wanted, labels=1e-4):
    """
    Equal but for float32's rounding. A label of Self-MM is divided by how much closer its sample is to one centre than
    to the other, which may be close to nothing: its rounding error is the largest.
    """
    assert found["step"] == wanted["step"] and found["rates"] == wanted["rates"]
    assert torch.equal(found["updated_in"], wanted["updated_in"])
    for name, value in wanted["parameters"].items():
        torch.testing.assert_close(
            found["parameters"][name], value, rtol=0, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )
    for name, value in wanted["generated"].items():
        atol = labels if name.startswith("labels") else 1e-5
        torch.testing.assert_close(
            found["generated"][name], value, rtol=1e-6, atol=atol, msg=lambda m, name=name: f"{name}: {m}"
        )
    np.testing.assert_allclose(found["losses"], wanted["losses"], atol=2e-6)
    for name, value in wanted["predictions"].items():
        np.testing.assert_allclose(found["predictions"][name], value, atol=2e-6)


def assert_ranks_agree(ranks):
    for other in ranks[1:]:
        for kind in ("generated", "parameters"):
            for name, value in ranks[0][kind].items():
                assert torch.equal(value, other[kind][name]), name


def assert_labels_moved(found):
    """There was something to agree about."""
    for index, m in enumerate(MODALITIES):
        assert (found["generated"][f"labels.{m}"][:-1] - found["first"][:, index]).abs().max() > 0.1


@pytest.mark.parametrize(("strategy", "samples"), [("self_mm", 19), pytest.param("sugrm", 17, marks=pytest.mark.slow)])
def test_two_processes_equal_one(tmp_path, strategy, samples):
    """
    Two processes that accumulate two batches of 2 equal one with batches of 8. The last step has 3 samples, or 1, which
    leaves nothing to a process.
    """
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "per_device_eval_batch_size": 7}
    ranks = run(tmp_path, 2, strategy, samples, **settings)
    (alone,) = run(tmp_path, 1, strategy, samples, per_device_train_batch_size=8, per_device_eval_batch_size=14)
    assert_ranks_agree(ranks)
    assert_labels_moved(alone)
    assert_same(ranks[0], alone)
    assert alone["step"] == 9 and alone["rates"] == [0.02]
    seen = sorted(itertools.chain.from_iterable(rank["order"][i] for rank in ranks for i in range(len(rank["order"]))))
    assert seen == sorted(itertools.chain.from_iterable(alone["order"]))


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "sampling"), [("self_mm", "group_by_length"), ("sugrm", "random")])
@pytest.mark.parametrize(
    ("samples", "processes", "size", "accumulated"),
    [(TRAIN, 2, 4, 1), (21, 2, 4, 1), (17, 2, 4, 1), (17, 2, 2, 2), (19, 1, 4, 2), (23, 3, 4, 1), (5, 3, 4, 1)],
)
def test_processes_equal_one(tmp_path, strategy, sampling, samples, processes, size, accumulated):
    settings = {"train_sampling_strategy": sampling}
    ranks = run(
        tmp_path,
        processes,
        strategy,
        samples,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulated,
        **settings,
    )
    total = size * processes * accumulated
    (alone,) = run(tmp_path, 1, strategy, samples, per_device_train_batch_size=total, **settings)
    assert_ranks_agree(ranks)
    assert_same(ranks[0], alone)


# Programs


def run_program(arguments):
    return train_program.main(arguments)


@pytest.mark.slow
def test_streamed_rows_in_two_processes(tmp_path, tiny_recipe):
    """25 rows in steps of 8, 9 rows evaluated 6 at a time."""
    splits = {name: rows[:count] for (name, rows), count in zip(make_rows().items(), (25, 9, 9), strict=True)}
    prepared = write_prepared(splits, tmp_path)
    results = {}
    for processes in (1, 2):
        training = {**TINY_RECIPE["training"], "per_device_train_batch_size": 8 // processes, "optim": "sgd"}
        model = {name: value for name, value in TINY_RECIPE["model"].items() if name != "text_config"}
        dropouts = {f"{task}_dropout": 0.0 for task in ("fusion", *MODALITIES)}
        recipe = tiny_recipe(
            synthetic=None, data_file=str(prepared), streaming=True, shuffle_buffer=10, optimizer={"name": "training"},
            model={**model, **dropouts}, training={**training, "per_device_eval_batch_size": 6 // processes},
        )  # fmt: skip
        folder = tmp_path / f"run-{processes}"
        in_processes(run_program, processes, tmp_path / str(processes), [recipe, "--output_dir", str(folder)])
        results[processes] = folder
    one, two = (load_file(folder / "model.safetensors") for folder in results.values())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)
    one, two = (pq.read_table(folder / "generated_labels.parquet") for folder in results.values())
    assert one["id"].equals(two["id"])
    for m in MODALITIES:
        np.testing.assert_allclose(two[m].to_numpy(), one[m].to_numpy(), atol=1e-4)
    one, two = (json.loads((folder / "training_record.json").read_text()) for folder in results.values())
    for before, after in zip(one["stages"][0]["history"], two["stages"][0]["history"], strict=True):
        assert before == pytest.approx(after, abs=1e-5)


@pytest.mark.slow
def test_two_processes_of_the_launcher_equal_one(tmp_path, tiny_recipe):
    """With the configuration file; the checkpoint is read by predict.py."""
    dropouts = {f"{task}_dropout": 0.0 for task in ("fusion", *MODALITIES)}
    text_config = {**TINY_RECIPE["model"]["text_config"], "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    recipe = tiny_recipe(
        optimizer={"name": "training"},
        model={**TINY_RECIPE["model"], **dropouts, "text_config": text_config},
        training={**TINY_RECIPE["training"], "optim": "sgd", "per_device_train_batch_size": 20},
    )
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / "ddp_cpu.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    weights = []
    for start, size in (([sys.executable], 20), (launcher, 10)):
        folder = tmp_path / str(size)
        command = [*start, "train.py", recipe, "--output_dir", folder, "--per_device_train_batch_size", str(size)]
        subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=True, timeout=300)
        weights.append(load_file(folder / "model.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-6)
    command = [sys.executable, "predict.py", folder, "--split", "test", "--output", tmp_path / "predictions.parquet"]
    subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=True, timeout=120)
    assert pq.read_table(tmp_path / "predictions.parquet").num_rows == 16


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_accelerate_reads_the_configuration_files(name):
    config = load_config_from_file(str(CONFIGS / name))
    assert config.num_processes > 1
    kinds = {"fsdp.yaml": "FSDP", "deepspeed_zero2.yaml": "DEEPSPEED"}
    assert config.distributed_type == kinds.get(name, "MULTI_GPU")  # `accelerate launch` starts one for MULTI_CPU


def test_streamed_rows_in_several_workers_are_refused(tmp_path):
    """Two would read 40 rows as 3 + 3 batches of up to 8, of which training would take 5."""
    setting = Setting()
    rows = setting.splits["train"]
    setting.splits["train"] = StreamedRows(rows.table, rows.table.to_iterable_dataset())
    trainer = setting.trainer(tmp_path, dataloader_num_workers=2)
    with pytest.raises(ValueError, match="dataloader_num_workers` must be 0 or 1 where rows are streamed; got 2"):
        trainer.train()


def test_launches_that_would_go_wrong_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match="2 processes were started.*--use_cpu true"):
        check_processes(SimpleNamespace(world_size=1, deepspeed_plugin=None))
    check_processes(SimpleNamespace(world_size=2, deepspeed_plugin=SimpleNamespace(zero_stage=2)))
    with pytest.raises(ValueError, match=r"`zero_stage` must be 1 or 2.*got 3.*fsdp\.yaml"):
        check_processes(SimpleNamespace(world_size=2, deepspeed_plugin=SimpleNamespace(zero_stage=3)))


# Architectures

LOOK_AT_BATCHES = {
    *("lf_dnn", "tfn", "lmf"),  # normalise over the batch
    *("misa", "mmim", "mfm", "delta_attention"),  # have losses that compare its samples
    *("bc_lstm", "mctn"),  # have means over those of its samples that have a modality
}


def weights_of_every_architecture(folder, size):
    """The weights after four steps of every architecture without dropout; the last step has 5 samples."""
    setting, found = Setting(), {}
    setting.splits["train"] = MappedRows(setting.splits["train"].table.select(range(21)))
    text_config = {**BERT, "vocab_size": len(setting.processor.tokenizer), "max_position_embeddings": 64}
    text_config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    features = {"audio_feature_size": 8, "vision_feature_size": 6, "text_config": text_config}
    for architecture in MAIN:
        config = make_config(architecture, target="sentiment", **features)
        for name in (name for name in vars(config) if name.endswith("dropout")):
            setattr(config, name, 0.0)
        torch.manual_seed(0)
        model = MODEL_MAPPING[type(config)](config)
        settings = {"optim": "sgd", "learning_rate": 0.02, "num_train_epochs": 1, "save_strategy": "no"}
        trainer = setting.trainer(
            folder, model=model, optimizer=SGD, eval_strategy="no", per_device_train_batch_size=size, **settings
        )
        trainer.train()
        found[architecture] = parameters(trainer.trained_model())
    return found


@pytest.mark.slow
def test_which_architectures_look_at_a_batch_as_a_whole(tmp_path):
    """Those that the documentation names, and no other, train on each process's part of a batch by itself."""
    two, _ = in_processes(weights_of_every_architecture, 2, tmp_path / "2", str(tmp_path / "two"), 4, timeout=900)
    (one,) = in_processes(weights_of_every_architecture, 1, tmp_path / "1", str(tmp_path / "one"), 8, timeout=900)
    far = {
        architecture: max((two[architecture][name] - value).abs().max().item() for name, value in weights.items())
        for architecture, weights in one.items()
    }
    # Rounding takes UCRN, whose states are the largest, to 1e-5; of those that do, the nearest is at 1.4e-4.
    assert {architecture for architecture, distance in far.items() if distance > 4e-5} == LOOK_AT_BATCHES


# Resuming


def resumed(folder, unbroken, step, processes, size, accumulated, **settings):
    return run(
        folder,
        processes,
        samples=21,
        resume=str(unbroken["run"] / f"checkpoint-{step}"),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulated,
        **settings,
    )


SAVED = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}


def test_a_run_of_one_process_goes_on_in_two(tmp_path):
    """In the middle of the second of three epochs, with accumulated batches, too."""
    (unbroken,) = run(tmp_path, 1, samples=21, per_device_train_batch_size=8, **SAVED)
    ranks = resumed(tmp_path, unbroken, 4, 2, 2, 2, **SAVED)
    assert_ranks_agree(ranks)
    assert_same_end(ranks, unbroken, steps=5)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 5])
@pytest.mark.parametrize(("then", "sampling"), [((2, 4), "group_by_length"), ((1, 8), "random")])
def test_a_run_goes_on_in_other_numbers_of_processes(tmp_path, step, then, sampling):
    """At an epoch's end and before it."""
    settings = {**SAVED, "train_sampling_strategy": sampling}
    processes, size = then
    unbroken = run(tmp_path, processes, samples=21, per_device_train_batch_size=size, **settings)[0]
    for now in ((1, 2, 4), (2, 2, 2), (1, 8, 1)):
        ranks = resumed(tmp_path, unbroken, step, *now, **settings)
        assert_ranks_agree(ranks)
        assert_same_end(ranks, unbroken, steps=9 - step)


def assert_same_end(ranks, unbroken, steps):
    """What was trained in the last steps, and what came of it."""
    trained = sum(len(batch) for rank in ranks for batch in rank["order"])
    assert trained == 21 * (steps // 3) + {0: 0, 1: 5, 2: 13}[steps % 3]
    assert_same({**ranks[0], "losses": unbroken["losses"]}, unbroken)
    np.testing.assert_allclose(ranks[0]["losses"][-2:], unbroken["losses"][-2:], atol=2e-6)


def test_another_number_of_samples_per_step_is_refused(tmp_path):
    setting = Setting()
    training = {**SAVED, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 2}
    setting.trainer(tmp_path, setting.generator(), **training).train()
    checkpoint = str(tmp_path / "checkpoint-2")
    for size, accumulated in ((4, 3), (3, 2)):
        changed = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "max_steps": 3}
        trainer = setting.trainer(tmp_path, setting.generator(), **{**training, **changed})
        remedy = f"size {8 // accumulated if 8 % accumulated == 0 else 8} --gradient_accumulation_steps"
        with pytest.raises(
            ValueError, match=f"with 8 samples per step, but this run has {size * accumulated}.*{remedy}"
        ):
            trainer.train(resume_from_checkpoint=checkpoint)
    state = tmp_path / "checkpoint-2" / "trainer_state.json"
    content = json.loads(state.read_text())
    del content["stateful_callbacks"]["SameGlobalBatch"]  # as in a checkpoint that does not say it
    state.write_text(json.dumps(content))
    trainer = setting.trainer(tmp_path, setting.generator(), **{**training, "max_steps": 3})
    trainer.train(resume_from_checkpoint=checkpoint)
    content = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    assert content["stateful_callbacks"]["SameGlobalBatch"]["attributes"] == {"samples": 8}


def test_remedy_where_the_samples_cannot_be_shared():
    refusing = SameGlobalBatch(samples=9, processes=3, accumulated=1)
    assert "8 cannot be shared by 3 processes; take one of 1, 2, 4, 8." in refusing._remedy(8)


# Sharded models


def test_sharded_training_equals_that_of_whole_models(tmp_path):
    """FSDP2: the text encoder's layers apart, the labels generated, groups by name, gradients clipped."""
    settings = {"per_device_train_batch_size": 4, "max_grad_norm": 0.05}
    sharded = run(tmp_path, 2, samples=21, sharded=True, **settings)
    whole = run(tmp_path, 2, samples=21, **settings)
    assert [found["sharded"] for found in (*sharded, *whole)] == [True, True, False, False]
    assert_ranks_agree(sharded)
    assert_labels_moved(whole[0])
    assert_same(sharded[0], whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [None, ["text_encoder"]])
def test_sharded_training_resumes(tmp_path, frozen):
    settings = {**SAVED, "samples": 21, "sharded": True, "frozen": frozen, "per_device_train_batch_size": 4}
    adam = {"optimizer": {"name": "adam", "text_encoder": {"learning_rate": 1e-4}}, "learning_rate": 1e-3}
    unbroken = run(tmp_path, 2, **settings, **adam)
    for step in (3, 5):
        checkpoint = unbroken[0]["run"] / f"checkpoint-{step}"
        ranks = run(tmp_path, 2, resume=str(checkpoint), **settings, **adam)
        assert_ranks_agree(ranks)
        for kind in ("parameters", "generated"):
            for name, value in unbroken[0][kind].items():
                assert torch.equal(ranks[0][kind][name], value), name
    loaded = AutoModel.from_pretrained(unbroken[0]["run"] / "checkpoint-9")
    for name, value in unbroken[0]["parameters"].items():
        assert torch.equal(loaded.get_parameter(name), value), name
    start = parameters(Setting().model())
    for name, value in unbroken[0]["parameters"].items():
        if frozen and name.startswith("text_encoder"):
            assert torch.equal(value, start[name])


def test_embeddings_that_are_sharded_apart():
    model = Setting().model()
    assert model.get_input_embeddings() is model.text_encoder.embeddings.word_embeddings
    assert EfLstmModel(make_config("ef_lstm", **FEATURES)).get_input_embeddings() is None


def test_sharding_that_accelerate_would_leave_out_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="asks for FSDP.*on GPUs"):
        setting = Setting()
        setting.trainer(tmp_path)

"""Runs in stages: what each trains and leaves alone, what they leave behind, and going on where they stopped."""

import copy
import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

import train
from tests.conftest import TINY_RECIPE
from training.progress import EpochLine
from training.trainer import MultimodalTrainer

RECIPE = {
    "model_type": "delta_attention",
    "synthetic": {"train": 40, "valid": 16, "test": 16, "seed": 3, "missing": 0.1, "emotions": True},
    "modality_dropout": 0.2,
    "model": {
        "text_config": TINY_RECIPE["model"]["text_config"],
        **{"hidden_size": 8, "num_attention_heads": 2, "correlation_size": 4, "fusion_size": 8, "max_steps": 16},
    },
    "training": {
        **{"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "seed": 7, "use_cpu": True},
        **{"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2},
    },
    "stages": [
        {
            "name": "text",
            "trainable": ["text_encoder", "branches.text", "unimodal_outputs.text"],
            "model": {"objective": "text"},
        },
        {
            "name": "pairs",
            "trainable": ["encoders"],
            "model": {"objective": "correlation"},
            "training": {"metric_for_best_model": "loss", "per_device_train_batch_size": 16, "num_train_epochs": 1},
        },
        {
            "name": "fusion",
            "frozen": ["text_encoder", "branches", "unimodal_outputs", "encoders"],
            "model": {"objective": "fusion"},
        },
    ],
}
NAMES = [stage["name"] for stage in RECIPE["stages"]]
COSTS = ("train_seconds", "seconds_per_epoch", "peak_memory_mb")


def results_of(folder):
    return json.loads((folder / "all_results.json").read_text())


def assert_same_run(folder, other):
    ours, theirs = ({k: v for k, v in results_of(one).items() if k not in COSTS} for one in (folder, other))
    assert ours == theirs
    for place in (".", *(f"stages/{path.name}" for path in (folder / "stages").iterdir())):
        weights, others = (load_file(one / place / "model.safetensors") for one in (folder, other))
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights), place
    for name in ("predictions_valid.parquet", "predictions_test.parquet"):
        assert pq.read_table(folder / name).equals(pq.read_table(other / name)), name


class Modes:
    """By stage, modules that were in training mode in some forward pass of training, and in every one."""

    def __init__(self, patch):
        self.ever, self.always, compute_loss = {}, {}, MultimodalTrainer.compute_loss

        def noting(trainer, model, *args, **kwargs):
            result = compute_loss(trainer, model, *args, **kwargs)
            if model.training:
                stage = trainer.args.output_dir.rpartition("/")[2]
                now = {name for name, module in model.named_modules() if module.training}
                self.ever[stage] = self.ever.get(stage, set()) | now
                self.always[stage] = self.always.get(stage, now) & now
            return result

        patch.setattr(MultimodalTrainer, "compute_loss", noting)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run: its recipe, its folder, its results, the weights it began with, and the modes of its parts."""
    folder, build = tmp_path_factory.mktemp("stages"), train.build_model
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    start = {}

    def building(*args):
        model = build(*args)
        start.update(copy.deepcopy(model.state_dict()))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build_model", building)
        modes = Modes(patch)
        results = train.main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "run")])
    return str(folder / "recipe.yaml"), folder / "run", results, start, modes


def stage_weights(whole):
    """Names of the stages, with the weights before and after each."""
    _, run, _, start, _ = whole
    before = start
    for name in NAMES:
        after = load_file(run / "stages" / name / "model.safetensors")
        yield name, before, after
        before = after


def is_trained(stage, name):
    if "trainable" in stage:
        return any(name.startswith(f"{part}.") for part in stage["trainable"])
    return not any(name.startswith(f"{part}.") for part in stage.get("frozen", ()))


def test_a_stage_trains_its_parts_and_leaves_the_rest_bit_for_bit(whole):
    for stage, (_, before, after) in zip(RECIPE["stages"], stage_weights(whole), strict=True):
        assert before.keys() == after.keys()
        trained = {name for name in after if is_trained(stage, name)}
        assert {name for name in after if not torch.equal(before[name], after[name])} <= trained
        kept = {name for name in trained if torch.equal(before[name], after[name])}
        assert len(kept) < len(trained) / 4 and 0 < len(trained) < len(
            after
        )  # some see no gradient, as spare positions
    last = load_file(whole[1] / "model.safetensors")
    assert all(torch.equal(value, last[name]) for name, value in after.items())


def test_frozen_parts_run_without_dropout(whole):
    modes = whole[4]
    assert list(modes.ever) == NAMES
    for stage in RECIPE["stages"]:
        always, ever = modes.always[stage["name"]], modes.ever[stage["name"]]
        assert always == ever and "" in always
        parts = {"text_encoder", "branches.text", "branches.audio", "unimodal_outputs.vision", "encoders", "attention"}
        for part in parts:
            assert (part in ever) == is_trained(stage, f"{part}."), (stage["name"], part)
            assert part in ever or not [name for name in ever if name.startswith(f"{part}.")]


def test_results_of_all_stages(whole):
    _, run, results, _, _ = whole
    numbers = {name: json.loads((run / "stages" / name / "stage.json").read_text()) for name in NAMES}
    assert [numbers[name]["epochs"] for name in NAMES] == [2.0, 1.0, 2.0]
    found = results_of(run)
    assert found["epochs"] == 5.0 and found["best_epoch"] == numbers["fusion"]["best_epoch"]
    assert found["train_seconds"] == pytest.approx(sum(one["train_seconds"] for one in numbers.values()))
    assert found["parameters"] == sum(p.numel() for p in load_file(run / "model.safetensors").values())
    for split in ("valid", "test"):
        for head in ("", "text_", "audio_", "vision_"):
            assert {f"{split}_{head}{name}" for name in ("acc6", "wa_avg", "f1_weighted", "f1_fear")} <= set(found)
    assert found == {name: None if value != value else value for name, value in results.items()}


def test_what_a_run_leaves_behind(whole):
    _, run, _, _, _ = whole
    assert sorted(path.name for path in (run / "stages").iterdir()) == sorted(NAMES)
    assert not list(run.glob("checkpoint-*")) and not list(run.rglob("*incomplete*"))
    config = json.loads((run / "config.json").read_text())
    assert (config["objective"], config["target"]) == ("fusion", "emotion")
    card = (run / "README.md").read_text()
    for name, epochs in zip(NAMES, "212", strict=True):
        assert f"{name} ({epochs} epochs, best " in card
    assert "which of six emotions" in card and "best `acc6` on the validation split" in card
    assert "have no emotion, and so no strongest one: they are left out" in card
    assert yaml.safe_load((run / "recipe.yaml").read_text())["stages"] == RECIPE["stages"]


class KilledError(Exception):
    pass


def kill(monkeypatch, arguments, stage, step):
    """Runs until a stage has taken so many steps."""

    def die(self, args, state, control, **kwargs):
        if args.output_dir.endswith(f"/{stage}") and state.global_step == step:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EpochLine, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            train.main(arguments)


@pytest.mark.parametrize(("stage", "step"), [("pairs", 1), ("fusion", 5)], ids=["before a checkpoint", "after two"])
def test_a_run_that_is_killed_in_a_stage_goes_on_there(whole, tmp_path, monkeypatch, stage, step):
    recipe, run, *_ = whole
    out = tmp_path / "run"
    kill(monkeypatch, [recipe, "--output_dir", str(out)], stage, step)
    finished = NAMES[: NAMES.index(stage)]
    assert [name for name in NAMES if (out / "stages" / name / "stage.json").exists()] == finished
    assert not (out / "all_results.json").exists()
    times = {path: path.stat().st_mtime_ns for name in finished for path in (out / "stages" / name).rglob("*")}
    train.main([recipe, "--output_dir", str(out), "--resume_from_checkpoint", "true"])
    assert_same_run(run, out)
    assert times == {path: path.stat().st_mtime_ns for path in times}  # what was finished is not trained again


@pytest.mark.parametrize(
    "lost",
    [
        ("stages/pairs", "stages/fusion"),  # stopped between two stages
        ("stages/pairs/stage.json", "stages/pairs/model.safetensors", "stages/fusion"),  # before it was said to be done
        ("stages/pairs/stage.json", "stages/fusion"),
        (),  # after the last one
    ],
    ids=["between stages", "before the weights", "before the numbers", "before the results"],
)
def test_a_run_that_stopped_elsewhere(whole, tmp_path, lost):
    recipe, run, *_ = whole
    out = tmp_path / "run"
    shutil.copytree(run, out)
    for path in out.iterdir():
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    for name in lost:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    train.main([recipe, "--output_dir", str(out), "--resume_from_checkpoint", "true"])
    assert_same_run(run, out)


def test_a_named_checkpoint_is_refused(whole, tmp_path):
    recipe, run, *_ = whole
    checkpoint = run / "stages" / "text" / "checkpoint-6"
    with pytest.raises(ValueError, match="the recipe has stages.*give --resume_from_checkpoint true"):
        train.main([recipe, "--output_dir", str(tmp_path / "new"), "--resume_from_checkpoint", str(checkpoint)])
    assert not (tmp_path / "new").exists()


def test_a_finished_run_is_not_run_again(whole):
    recipe, run, *_ = whole
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    results = json.loads((run / "all_results.json").read_text())
    assert train.main([recipe, "--output_dir", str(run), "--resume_from_checkpoint", "true"]) == results
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--stages.fusion.frozen=[text_encodr]", "'fusion' names 'text_encodr'.*'text_encoder'"),
        ("--stages.fusion.model.hidden_size=16", "may not change what parameters there are"),
        ("--stages.fusion.training.learning_rate=fast", "learning_rate"),
        ("--stages.fusion.model.objective=smell", "objective"),
    ],
)
def test_what_is_wrong_with_the_last_stage_is_said_before_the_first(whole, tmp_path, override, said):
    with pytest.raises(Exception, match=said):
        train.main([whole[0], "--output_dir", str(tmp_path / "out"), override])
    assert not (tmp_path / "out").exists()


def test_without_its_stages_the_recipe_trains_end_to_end(whole, tmp_path):
    recipe, out = whole[0], tmp_path / "out"
    results = train.main([recipe, "--output_dir", str(out), "--stages", "[]", "--num_train_epochs", "1"])
    assert not (out / "stages").exists() and results["epochs"] == 1.0
    assert json.loads((out / "config.json").read_text())["objective"] == "all"
    assert "trained in stages" not in (out / "README.md").read_text().lower()


def test_another_architecture_in_stages(tiny_recipe, tmp_path):
    """First the heads, over a text encoder that stays as it is; then everything."""
    recipe = tiny_recipe(
        label_generation="none",
        synthetic={"train": 16, "valid": 8, "test": 8},
        stages=[
            {"name": "heads", "frozen": ["text_encoder"], "training": {"learning_rate": 1e-2}},
            {"name": "all", "model": {"fusion_dropout": 0.4}, "optimizer": {"text_encoder": {"learning_rate": 1e-4}}},
        ],
    )
    out = tmp_path / "run"
    results = train.main([recipe, "--output_dir", str(out), "--num_train_epochs", "1"])
    first, second = (load_file(out / "stages" / name / "model.safetensors") for name in ("heads", "all"))
    changed = {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"text_encoder", "audio_encoder", "vision_encoder", "heads"}
    assert results["epochs"] == 2.0 and json.loads((out / "config.json").read_text())["fusion_dropout"] == 0.4

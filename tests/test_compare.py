"""
compare.py: real runs and what is written of them, once for all tests; and what it makes of runs that fail, with a
stand-in for train.py that costs nothing.
"""

import copy
import csv
import json
import shlex
import shutil
import sys

import pytest
import yaml

import compare
from tests.conftest import TINY_RECIPE, make_mmsa_content

FILES = ("comparison.md", "comparison.csv", "runs.csv", "comparison.png", "significance.csv")
TEXT_FILES = tuple(name for name in FILES if not name.endswith("png"))
COSTS = ("train_seconds", "seconds_per_epoch", "peak_memory_mb")
# Takes train.py's place: notes its arguments, fails for data that is not there, and otherwise leaves results.
STAND_IN = """
import json, pathlib, sys
recipe, *rest = sys.argv[2:]
with open({calls!r}, "a") as file:
    file.write(json.dumps([recipe, *rest]) + "\\n")
print("loading")
if any("nowhere.pkl" in argument for argument in rest):
    sys.exit("FileNotFoundError: There is no nowhere.pkl")
out = pathlib.Path(rest[rest.index("--output_dir") + 1])
out.mkdir(parents=True)
(out / "all_results.json").write_text(json.dumps({{"test_mae": len(recipe)}}))
"""


def tiny(folder):
    recipe = copy.deepcopy(TINY_RECIPE)
    recipe["synthetic"] |= {"train": 24, "valid": 8, "test": 12}
    recipe["training"]["num_train_epochs"] = 2
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two variants, two seeds, trained: the command line, and the folder. Tests leave it as it is, or copy it."""
    folder = tmp_path_factory.mktemp("compared")
    tiny(folder)
    variants = {"as it is": {}, "wider": {"model.fusion_size": 24}}
    (folder / "grid.yaml").write_text(yaml.safe_dump({"recipe": "tiny.yaml", "variants": variants}))
    arguments = [str(folder / "grid.yaml"), "--seeds", "2", "--learning_rate", "2e-3"]
    assert compare.main([*arguments, "--output_dir", str(folder / "out")]) == 0
    return arguments, folder / "out"


@pytest.fixture
def stand_in(tmp_path):
    """A `--launch` that trains nothing, and the calls that it got."""
    script, calls = tmp_path / "stand in.py", tmp_path / "calls.jsonl"
    script.write_text(STAND_IN.format(calls=str(calls)))
    tiny(tmp_path)
    launch = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"
    return launch, lambda: [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


# Real runs


def test_every_run_has_a_folder_and_the_files_are_there(compared):
    _, out = compared
    assert {path.name for path in out.iterdir()} == {"as_it_is", "wider", *FILES}
    for variant in ("as_it_is", "wider"):
        names = {f"seed_{seed}{end}" for seed in (7, 8) for end in ("", ".log")}
        assert {path.name for path in (out / variant).iterdir()} == names
        for seed in (7, 8):
            recipe = yaml.safe_load((out / variant / f"seed_{seed}" / "recipe.yaml").read_text())
            assert recipe["training"]["seed"] == seed and recipe["training"]["learning_rate"] == 2e-3
            assert recipe["model"]["fusion_size"] == (16 if variant == "as_it_is" else 24)
            assert "epoch 2: " in (out / variant / f"seed_{seed}.log").read_text()


def test_tables_hold_the_results_of_the_runs(compared):
    _, out = compared
    found = {
        (name, seed): json.loads((out / name.replace(" ", "_") / f"seed_{seed}" / "all_results.json").read_text())
        for name in ("as it is", "wider")
        for seed in (7, 8)
    }
    rows = read_csv(out / "runs.csv")
    assert [(row["variant"], int(row["seed"])) for row in rows] == list(found)
    for row, results in zip(rows, found.values(), strict=True):
        assert {name: row[name] for name in results} == {k: "" if v is None else str(v) for k, v in results.items()}
    assert len({row["test_mae"] for row in rows}) == 4  # other seeds, other numbers
    first, second = read_csv(out / "comparison.csv")
    for row, variant in ((first, "as it is"), (second, "wider")):
        maes = [found[variant, seed]["test_mae"] for seed in (7, 8)]
        assert (row["variant"], row["seeds"]) == (variant, "2")
        assert float(row["test_mae_mean"]) == pytest.approx(sum(maes) / 2)
        assert float(row["test_mae_std"]) == pytest.approx(abs(maes[0] - maes[1]) / 2**0.5)
    assert float(first["parameters_mean"]) < float(second["parameters_mean"])
    assert "# 2 variants, 2 seeds" in (out / "comparison.md").read_text()


def test_finished_runs_are_kept(compared, capsys, monkeypatch):
    arguments, out = compared
    times = {path: path.stat().st_mtime_ns for path in out.glob("*/seed_*/all_results.json")}
    before = {name: (out / name).read_bytes() for name in TEXT_FILES}
    monkeypatch.setattr(compare.subprocess, "run", None)
    assert compare.main([*arguments, "--output_dir", str(out)]) == 0
    assert len(times) == 4 and all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert {name: (out / name).read_bytes() for name in TEXT_FILES} == before
    printed = capsys.readouterr().out
    assert "4 runs, 4 of them finished" in printed and before["comparison.md"].decode() in printed


def test_differences_are_those_of_the_runs(compared):
    """The reference is the better one on the validation split, and its difference that of the tables' means."""
    _, out = compared
    rows = {row["variant"]: row for row in read_csv(out / "comparison.csv")}
    (pair,) = read_csv(out / "significance.csv")
    assert (pair["system"], pair["other"], pair["metric"], pair["resampled"]) == ("as it is", "wider", "mae", "samples")
    difference = float(rows["as it is"]["test_mae_mean"]) - float(rows["wider"]["test_mae_mean"])
    assert float(pair["difference"]) == pytest.approx(difference, rel=1e-5)
    assert float(pair["low"]) <= difference <= float(pair["high"]) and pair["resamples"] == "10000"
    reference = min(rows, key=lambda name: float(rows[name]["valid_mae_mean"]))
    text = (out / "comparison.md").read_text()
    assert f"Difference: to `{reference}` (the best `mae` on the validation split)" in text
    assert "over the 12 test samples: 10,000 resamples" in text


def test_what_is_compared_can_be_chosen(compared, tmp_path, monkeypatch):
    arguments, out = compared
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "measured.csv").write_text("system,source,corr\nself_mm,a paper,0.781\n")
    monkeypatch.setattr(compare.subprocess, "run", None)
    arguments = [*arguments, "--significance_metric", "corr", "--reference", "wider", "--resamples", "500"]
    arguments += ["--measured", str(tmp_path / "measured.csv"), "--output_dir", str(tmp_path / "out")]
    assert compare.main(arguments) == 0
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "Difference: to `wider` (as asked for)" in text and "500 resamples" in text
    assert "| system | seeds | corr | difference [95 %] | p | corr elsewhere | mae |" in text
    assert text.count(" | 0.781 | ") == 2 and "| self_mm | a paper | 0.781 |" in text  # both are Self-MM
    (pair,) = read_csv(tmp_path / "out" / "significance.csv")
    assert (pair["metric"], pair["resamples"]) == ("corr", "500")


def test_one_system_alone_is_not_tested(compared, tmp_path, monkeypatch):
    arguments, out = compared
    shutil.copytree(out / "as_it_is", tmp_path / "out" / "tiny")
    monkeypatch.setattr(compare.subprocess, "run", None)
    recipe = str(out.parent / "tiny.yaml")
    assert compare.main([recipe, *arguments[1:], "--output_dir", str(tmp_path / "out")]) == 0
    assert "Difference" not in (tmp_path / "out" / "comparison.md").read_text()
    assert not (tmp_path / "out" / "significance.csv").exists()


def test_fewer_seeds_take_the_first(compared, tmp_path, capsys):
    arguments, out = compared
    shutil.copytree(out, tmp_path / "out")
    compare.main([*arguments[:1], "--seeds", "1", *arguments[3:], "--output_dir", str(tmp_path / "out")])
    assert [row["seed"] for row in read_csv(tmp_path / "out" / "runs.csv")] == ["7", "7"]
    assert "± " not in (tmp_path / "out" / "comparison.md").read_text()


def test_an_interrupted_run_is_resumed(compared, tmp_path, capsys):
    """Killed in its second epoch, it goes on from the first one's checkpoint, and ends as it would have."""
    arguments, out = compared
    shutil.copytree(out, tmp_path / "out")
    run, log = tmp_path / "out" / "wider" / "seed_8", tmp_path / "out" / "wider" / "seed_8.log"
    for path in run.iterdir():
        if path.name == "checkpoint-6":
            shutil.rmtree(path)
        elif path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    assert {path.name for path in run.iterdir()} == {"recipe.yaml", "checkpoint-3"}
    said = log.read_text()

    assert compare.main([*arguments, "--output_dir", str(tmp_path / "out")]) == 0
    assert "4 runs, 3 of them finished" in capsys.readouterr().out
    assert log.read_text().startswith(said)  # the log goes on, too
    again = log.read_text().removeprefix(said)
    assert "epoch 2: " in again and "epoch 1: " not in again
    whole, resumed = (read_csv(folder / "runs.csv") for folder in (out, tmp_path / "out"))
    for one, other in zip(whole, resumed, strict=True):
        assert {k: v for k, v in one.items() if k not in COSTS} == {k: v for k, v in other.items() if k not in COSTS}


@pytest.mark.parametrize(
    ("override", "key"),
    [("--model.text_size=4", "model"), ("--num_train_epochs=3", "training")],
    ids=["model", "epochs"],
)
def test_a_folder_with_another_recipe(compared, monkeypatch, override, key):
    arguments, out = compared
    before = (out / "comparison.md").read_bytes()
    monkeypatch.setattr(compare.subprocess, "run", None)
    with pytest.raises(ValueError, match=rf"seed_7 holds a run with another recipe \({key}: .*--output_dir"):
        compare.main([*arguments, override, "--output_dir", str(out)])
    assert (out / "comparison.md").read_bytes() == before


# What reaches train.py


def test_what_is_no_option_goes_to_every_run(stand_in, tmp_path):
    launch, calls = stand_in
    rest = ["--bf16", "false", "--seeds", "2", "--model.text_size=4", "--normalize", "[audio, vision]"]
    rest += ["--output_dir", str(tmp_path / "out"), "--weight_decay", "-1e-5", "--launch", launch, "--run_name", "a b"]
    assert compare.main([str(tmp_path / "tiny.yaml"), *rest]) == 0
    kept = ["--bf16", "false", "--model.text_size=4", "--normalize", "[audio, vision]"]
    kept += ["--weight_decay", "-1e-5", "--run_name", "a b"]
    for call, seed in zip(calls(), ("7", "8"), strict=True):
        path = str(tmp_path / "out" / "tiny" / f"seed_{seed}")
        assert call == [str(tmp_path / "tiny.yaml"), *kept, "--seed", seed, "--output_dir", path]


@pytest.mark.parametrize(
    ("rest", "seeds"), [(["--seed", "30"], [30, 31, 32, 33, 34]), (["--seeds=1", "--training.seed=9"], [9])]
)
def test_seeds_count_up_from_the_recipes(stand_in, tmp_path, rest, seeds):
    """The last --seed counts, so that of the command line is the first run's."""
    launch, calls = stand_in
    compare.main([str(tmp_path / "tiny.yaml"), *rest, "--launch", launch, "--output_dir", str(tmp_path / "out")])
    assert [int(call[-3]) for call in calls()] == seeds
    assert sorted(path.name for path in (tmp_path / "out" / "tiny").glob("seed_*[0-9]")) == [f"seed_{s}" for s in seeds]


def test_a_claimed_folder_is_resumed(stand_in, tmp_path):
    """Even without a checkpoint: train.py then begins anew, which it refuses otherwise."""
    launch, calls = stand_in
    arguments = [str(tmp_path / "tiny.yaml"), "--seeds", "2", "--launch", launch, "--output_dir", str(tmp_path / "out")]
    variant = compare.expand(arguments[:1])[0]
    run = tmp_path / "out" / "tiny" / "seed_8"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(variant.recipe("--seed", "8").to_yaml())
    compare.main(arguments)
    assert [call[-2:] == ["--resume_from_checkpoint", "true"] for call in calls()] == [False, True]


def test_all_runs_are_trained_on_the_same_data(mmsa_file, tmp_path, capsys, monkeypatch):
    """A file that was changed between two calls is refused: the first call's runs had another."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    content = make_mmsa_content()
    recipe = {**TINY_RECIPE, "synthetic": None, "data_file": mmsa_file(content), "label_generation": "none"}
    recipe["training"] = {**recipe["training"], "num_train_epochs": 1}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    arguments = [str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path / "out"), "--seeds"]
    assert compare.main([*arguments, "1"]) == 0
    for split in content.values():
        split["regression_labels"] = -split["regression_labels"]
    mmsa_file(content)
    capsys.readouterr()
    assert compare.main([*arguments, "2"]) == 1
    assert "seed 8 failed" in (found := capsys.readouterr().err) and "but the recipe's `data_sha256` is" in found
    assert "| tiny | 1 of 2 | " in (tmp_path / "out" / "comparison.md").read_text()


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_run_that_fails(stand_in, tmp_path, capsys, jobs):
    """The others go on, the tables have what there is, and started again only the failed ones are tried."""
    launch, calls = stand_in
    grid = {"recipe": "tiny.yaml", "variants": {"broken": {"data_file": "nowhere.pkl"}, "whole": {}}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    arguments = [str(tmp_path / "grid.yaml"), "--seeds", "2", "--jobs", str(jobs)]
    arguments += ["--launch", launch, "--output_dir", str(tmp_path / "out")]
    assert compare.main(arguments) == 1
    assert len(calls()) == 4
    errors = capsys.readouterr().err.splitlines()
    for seed, message in zip((7, 8), errors, strict=True):
        log = tmp_path / "out" / "broken" / f"seed_{seed}.log"
        assert message.startswith(f"broken, seed {seed} failed with exit status 1; see {log}: ")
        assert message.endswith("FileNotFoundError: There is no nowhere.pkl")
        assert log.read_text().splitlines() == ["loading", "FileNotFoundError: There is no nowhere.pkl"]
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| broken | 0 of 2 | - |" in text and "| whole | 2 | " in text
    assert "whole is not compared: There is no " in text and "Difference" not in text  # it has no predictions
    assert compare.main(arguments) == 1
    assert len(calls()) == 6


# The command line


@pytest.mark.parametrize("arguments", [[], ["--seeds", "2"], ["--seeds", "2", "recipes/quickstart.yaml"]], ids=str)
def test_files_come_first(arguments):
    with pytest.raises(ValueError, match="first arguments must be recipes or grids"):
        compare.parse(arguments)


@pytest.mark.parametrize(("option", "value"), [("seeds", "0"), ("seeds", "-1"), ("jobs", "0")])
def test_counts(option, value):
    with pytest.raises(ValueError, match=rf"`--seeds` and `--jobs` must be at least 1; got .*{value}"):
        compare.parse(["a.yaml", f"--{option}={value}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resamples", "99"], "`--resamples` must be at least 100; got 99"),
        (["--reference", "tiney"], "`--reference` must be one of tiny; got 'tiney'. Nearest: 'tiny'"),
        (["--significance_metric", "acc77"], "`--significance_metric` must be one of mae, .*'acc77'. Nearest: 'acc7'"),
        (["--measured", "nowhere.csv"], "nowhere.csv is no file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_to_compare_is_checked_before_the_first_run(stand_in, tmp_path, options, message):
    launch, calls = stand_in
    arguments = [str(tmp_path / "tiny.yaml"), "--launch", launch, "--output_dir", str(tmp_path / "out")]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        compare.main([*arguments, *options])
    assert calls() == []


def test_options():
    options, rest = compare.parse(["a.yaml", "b.yaml", "--corpus", "mosi", "--seed", "3", "--out", "x", "--jobs=2"])
    assert options.files == ["a.yaml", "b.yaml"] and (options.corpus, options.jobs) == ("mosi", 2)
    assert (options.seeds, options.output_dir) == (5, "runs/compare")
    assert rest == ["--seed", "3", "--out", "x"]  # nothing is an abbreviation: train.py has --seed, not compare.py
    assert shlex.split(options.launch) == [sys.executable]


def test_every_recipe_is_checked_before_the_first_run(stand_in, tmp_path):
    launch, calls = stand_in
    grid = {"recipe": "tiny.yaml", "variants": {"whole": {}, "mistyped": {"model.fusionsize": 3}}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    with pytest.raises(ValueError, match=r"^mistyped: .*fusionsize"):
        compare.main([str(tmp_path / "grid.yaml"), "--launch", launch, "--output_dir", str(tmp_path / "out")])
    with pytest.raises(ValueError, match=r"'late\.yaml'"):
        compare.main([str(tmp_path / "tiny.yaml"), "--seeds", "1", "late.yaml", "--launch", launch])
    assert calls() == [] and not (tmp_path / "out").exists()

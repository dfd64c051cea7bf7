"""The model card: its numbers, its metadata, its code, and that nothing in it breaks or gives away too much."""

import ast
import csv
import json
import math
import re

import numpy as np
import pyarrow as pa
import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from configuration import TARGETS
from datasets_scripts import EMOTIONS, MODALITIES
from datasets_scripts.corpora import CORPORA
from tests.training.card_runs import MACHINE, made_run
from training.finished_run import FinishedRun
from training.model_card import CARD_FILE, PUBLISHED, model_card, write_card

CELL_END = re.compile(r"(?<!\\)\|")
STEPS_OF_TWO = (("first", 2.0, 1.0), ("second", 3.0, 2.0))


def text_of(run, repo_id=None, runs=(), pictures=()):
    return str(model_card(run, repo_id, runs, pictures))


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def without_code(text):
    return re.sub(r"```\w*\n.*?\n```", "", text.split("---\n", 2)[2], flags=re.DOTALL)


def code_blocks(text, language="python"):
    return re.findall(rf"```{language}\n(.*?)\n```", text, re.DOTALL)


def tables(text):
    """Every table as a list of rows of cells; fails where one is broken."""
    lines, found = without_code(text).splitlines(), []
    for number, line in enumerate(lines):
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in CELL_END.split(line)[1:-1]]
        assert CELL_END.split(line)[-1] == "", line
        if not lines[number - 1].startswith("|"):
            assert lines[number - 1] == "", f"nothing may stand right above: {line}"
            assert re.fullmatch(r"\|( ?-{3,} ?\|)+", lines[number + 1]), f"no line of dashes below: {line}"
            found.append([])
        elif number + 1 == len(lines) or not lines[number + 1].startswith("|"):
            assert number + 1 == len(lines) or lines[number + 1] == "", f"nothing may stand right below: {line}"
        found[-1].append(cells)
        assert len(cells) == len(found[-1][0]), line
    return [[rows[0], *rows[2:]] for rows in found]


def table(text, first):
    """The table whose first header cell is `first`, its rows by their first cell."""
    header, *rows = next(rows for rows in tables(text) if rows[0][0] == first)
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def assert_sound(text):
    """What holds for every card."""
    tables(text)
    body = without_code(text)
    assert not re.search(r"\{[{%#]|[}%#]\}|\bNone\b|\bnan\b|\$(low|high)", body)
    assert "\n\n\n" not in text.split("---\n", 2)[2], "an empty line too many"
    lines = body.splitlines()
    for number, line in enumerate(lines):
        assert line == line.rstrip(), line
        if line.startswith("#"):
            assert lines[number - 1] == lines[number + 1] == "", line
        if re.match(r"- ", line) and not re.match(r"- |  ", lines[number - 1]):
            assert lines[number - 1] == "", f"a list needs an empty line above: {line}"
    for block in code_blocks(text):
        ast.parse(block)
    assert "Model card" not in text and text.endswith("\n")
    for heading in ("Use", "Intended use and limits", "Results", "Training data", "Training", "Citation"):
        assert f"\n## {heading}\n" in text


# Every kind of card.


@pytest.mark.parametrize("target", list(TARGETS))
def test_every_target(target, tmp_path):
    run = made_run(tmp_path / "run", target)
    text = text_of(run)
    assert_sound(text)
    outputs = len(TARGETS[target][1])
    assert f"outputs.logits  # (batch, {outputs})" in text
    assert set(table(text, "metric")) == {f"`{name}`" for name in run.target.metric_names}
    assert ("emotion-recognition" in front_matter(text)["tags"]) == run.target.of_emotions
    assert f"best `{run.target.selection}` on the validation split" in " ".join(text.split())


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize(
    "modalities", [MODALITIES, ("text",), ("audio",), ("vision",), ("text", "vision"), ("audio", "vision")]
)
def test_code_of_every_kind_of_checkpoint(modalities, tokens, tmp_path):
    run = made_run(tmp_path / "run", modalities=modalities, tokens=tokens)
    text = text_of(run, "org/a-model")
    assert_sound(text)
    pipeline, by_hand = code_blocks(text)
    for block in (pipeline, by_hand):
        assert 'name = "org/a-model"' in block and "name, trust_remote_code=True" in block
        assert ("import numpy as np" in block) == ("np." in block)
    reads_tokens = tokens and "text" in modalities
    assert ('predict("' in pipeline) == ('processor(text=["' in by_hand) == reads_tokens
    for modality, size in (("text", 300), ("audio", 74), ("vision", 35)):
        there = modality in modalities and not (modality == "text" and tokens)
        assert (f'"{modality}_values": np.zeros((20, {size}))' in pipeline) == there
        assert (f"`{modality}_values`: {size} features per step" in text) == there
    assert set(front_matter(text)["tags"]) & set(MODALITIES) == set(modalities)


def test_the_example_is_in_the_language_of_the_corpus(tmp_path):
    chinese = re.compile("[\u4e00-\u9fff]")
    for corpus in (*CORPORA, None):
        blocks = code_blocks(text_of(made_run(tmp_path / "run", corpus=corpus)))
        assert all(bool(chinese.search(block)) == (corpus in ("sims", "simsv2")) for block in blocks)


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("tokens", [True, False])
def test_the_example_says_what_comes_out(target, tokens, tmp_path):
    """The keys that the pipeline documents, below the first call that there is."""
    pipeline, _ = code_blocks(text_of(made_run(tmp_path / "run", target, tokens=tokens)))
    (answer,) = (line for line in pipeline.splitlines() if line.startswith("# "))
    wanted = {"sentiment": {"label", "score", "range", "text"}, "emotions": {"labels", "scores", "text"}}
    assert wanted.get(target, {"label", "score", "scores", "text"}) <= set(re.findall(r'"(\w+)":', answer))
    assert "such as" in answer


def test_the_example_of_a_checkpoint_without_a_name_on_the_hub(tmp_path):
    assert 'name = "run"' in text_of(made_run(tmp_path / "run"))
    for name in ('it"s', "it's", "back\\slash"):
        text = text_of(made_run(tmp_path / name))
        assert_sound(text)
        for block in code_blocks(text):
            given = [node.value for node in ast.walk(ast.parse(block)) if type(node) is ast.Assign]
            assert name in {value.value for value in given if type(value) is ast.Constant}


# Metadata.


@pytest.mark.parametrize("target", list(TARGETS))
def test_the_metadata_are_read_with_every_result(target, tmp_path):
    run = made_run(tmp_path / "run", target)
    undefined = run.target.metric_names[-1]
    for split in ("valid", "test"):
        run.results[f"{split}_{undefined}"] = math.nan if split == "test" else None
    text = text_of(run, "org/a-model")
    (tmp_path / CARD_FILE).write_text(text, encoding="utf-8")
    card = ModelCard.load(tmp_path / CARD_FILE)

    name, results = model_index_to_eval_results(front_matter(text)["model-index"])
    assert name == card.data.model_name == "a-model"
    assert [vars(one) for one in results] == [vars(one) for one in card.data.eval_results]
    defined = [name for name in run.target.metric_names if name != undefined]
    assert {one.metric_type: one.metric_value for one in results} == {
        name: run.results[f"test_{name}"] for name in defined
    }
    assert {one.dataset_split for one in results} == {"test"}
    assert card.data.metrics == defined
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-classification"
    cells = table(text, "metric")
    assert cells[f"`{undefined}`"] == {"validation": "-", "test": "-"}
    assert "-" not in [cell for name in defined for cell in cells[f"`{name}`"].values()]
    assert_sound(text)


def test_a_run_whose_results_are_all_undefined_has_a_card(tmp_path):
    run = made_run(tmp_path / "run")
    for name in run.target.metric_names:
        run.results[f"test_{name}"] = math.nan
    text = text_of(run, runs=[run, made_run(tmp_path / "other", seed=2)])
    assert_sound(text)
    assert not front_matter(text).get("model-index")
    assert "uncertain by" not in text


@pytest.mark.parametrize(
    ("encoder", "base"),
    [("bert-base-uncased", "bert-base-uncased"), ("/nowhere/at/all/my-bert", None), (None, None)],
)
def test_the_base_model_is_one_of_the_hub(encoder, base, tmp_path):
    text = text_of(made_run(tmp_path / "run", recipe={"text_encoder": encoder}))
    assert front_matter(text).get("base_model") == base
    assert "/nowhere" not in text
    assert f"({(encoder or 'trained from scratch').rpartition('/')[2]})" in text


def test_an_encoder_in_a_folder_is_no_base_model(tmp_path, monkeypatch):
    (tmp_path / "encoders" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for encoder in ("encoders/mine", str(tmp_path / "encoders" / "mine")):
        text = text_of(made_run("run", recipe={"text_encoder": encoder}))
        assert "base_model" not in front_matter(text) and str(tmp_path) not in text


@pytest.mark.parametrize("corpus", list(CORPORA))
def test_people_terms_and_language_of_a_known_corpus(corpus, tmp_path):
    sims = {"metric_convention": "sims"} if corpus.startswith("sims") else {}
    text = text_of(made_run(tmp_path / "run", corpus=corpus, data="a.pkl", recipe=sims))
    assert_sound(text)
    info, words = CORPORA[corpus], " ".join(text.split())
    for sentence in (info.description, info.people, info.label_meaning, info.licence, info.citation):
        assert " ".join(sentence.split()) in words
    assert f"trained on {info.name} (a.pkl)" in text
    front = front_matter(text)
    assert front["language"] == info.language and front["license"] == "other"
    assert front["license_link"] == info.homepage
    assert re.fullmatch(r"[a-z0-9.-]+", front["license_name"])
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == f"{info.name} (a.pkl)"


def test_data_that_nobody_knows_and_data_of_nobody(tmp_path):
    unknown = text_of(made_run(tmp_path / "run"))
    assert "Who was in the data, and who rated it, is not known here" in unknown
    assert front_matter(unknown)["license"] == "unknown" and "language" not in front_matter(unknown)
    synthetic = {"data_file": None, "data_sha256": None, "synthetic": {}}
    made = text_of(made_run(tmp_path / "run", recipe=synthetic, data="synthetic corpus"))
    assert "Nobody was in the data" in made and "is not known here" not in made
    assert front_matter(made)["license"] == "apache-2.0" and "SHA-256" not in made
    for text in (unknown, made):
        assert_sound(text)
        assert "Terms of the corpus" not in text and "bibtex" not in text
        assert "published" not in " ".join(next(rows for rows in tables(text) if rows[0][0] == "metric")[0])


# Numbers.


def shown(name, values):
    """Independent of the card: mean and sample standard deviation, shares in percent."""
    mean = sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    if name in ("mae", "corr"):
        return f"{mean:.3f} ± {deviation:.3f}"
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}"


@pytest.mark.parametrize("target", ["sentiment", "emotions"])
def test_several_seeds(target, tmp_path):
    runs = [made_run(tmp_path / f"seed_{seed}", target, seed=seed) for seed in (1, 2, 3)]
    text = text_of(runs[1], runs=runs)
    assert_sound(text)
    rows = table(text, "metric")
    for name in runs[0].target.metric_names:
        assert rows[f"`{name}`"]["test, 3 seeds"] == shown(name, [run.results[f"test_{name}"] for run in runs])
        assert float(rows[f"`{name}`"]["test"]) == pytest.approx(
            runs[1].results[f"test_{name}"] * (1 if name in ("mae", "corr") else 100), abs=0.06
        )
    seeds = table(text, "seed")
    assert list(seeds) == ["1", "**2**, this checkpoint", "3"]
    selection = runs[0].target.selection
    for run, cells in zip(runs, seeds.values(), strict=True):
        scale = 1 if selection == "mae" else 100
        assert float(cells[f"{selection} (validation)"]) == pytest.approx(
            scale * run.results[f"valid_{selection}"], abs=0.06
        )
    assert "seed" not in [rows[0][0] for rows in tables(text_of(runs[1]))]


def test_a_metric_that_one_seed_lacks_has_no_mean(tmp_path):
    """A mean over fewer runs than the header says would be another number."""
    for value in (math.nan, None):
        runs = [made_run(tmp_path / f"seed_{seed}", seed=seed) for seed in (1, 2)]
        runs[1].results["test_corr"] = value
        text = text_of(runs[0], runs=runs)
        assert_sound(text)
        rows = table(text, "metric")
        assert rows["`corr`"]["test, 2 seeds"] == "-"
        assert rows["`mae`"]["test, 2 seeds"] == shown("mae", [run.results["test_mae"] for run in runs])


@pytest.mark.parametrize(
    ("corpus", "file", "model_type", "recipe", "target"),
    [
        ("mosi", "mosi", "self_mm", {}, "sentiment"),
        ("mosei", "mosei", "self_mm", {}, "sentiment"),
        ("sims", "sims", "self_mm", {"metric_convention": "sims"}, "sentiment"),
        ("mosei", "mosei_emotions", "delta_attention", {}, "emotion"),
    ],
)
def test_the_rows_of_papers(corpus, file, model_type, recipe, target, tmp_path):
    run = made_run(tmp_path / "run", target, corpus=corpus, model_type=model_type, recipe=recipe)
    text = text_of(run)
    assert_sound(text)
    with open(PUBLISHED / f"{file}.csv", newline="", encoding="utf-8") as lines:
        published = [row for row in csv.DictReader(lines) if row["system"] == model_type]
    assert published
    rows = table(text, "metric")
    for number, row in enumerate(published, 1):
        column = f"published ({number})" if len(published) > 1 else "published"
        for name in run.target.metric_names:
            value = row.get(name) or None
            scale, digits = (1, 3) if name in ("mae", "corr") else (100, 1)
            wanted = "-" if value is None else f"{float(value) * scale:.{digits}f}"
            assert rows[f"`{name}`"][column] == wanted, (name, column)
        assert row["source"] in text


def test_papers_that_report_another_target_or_system_are_not_quoted(tmp_path):
    for run in (
        made_run(tmp_path / "run", corpus="mosi", model_type="delta_attention"),
        made_run(tmp_path / "run", "emotion", corpus="mosei", model_type="self_mm"),
    ):
        text = text_of(run)
        assert_sound(text)
        assert "Published:" not in text and "table 1" not in text


def test_the_uncertainty_of_a_share(tmp_path):
    run = made_run(tmp_path / "run", results={"test_acc2_has0": 0.8})
    run.record["data"]["splits"]["test"] = 400
    assert "With 400 test clips, `acc2_has0` of 80.0 % is uncertain by 3.9 points" in text_of(run)


def test_the_uncertainty_of_a_share_is_that_of_the_samples_that_count(tmp_path):
    """Of clips without any emotion none is the strongest."""
    run = made_run(tmp_path / "run", "emotions", results={"test_acc6": 0.5})
    for i, name in enumerate(EMOTIONS):
        labels = np.where((np.arange(12) < 4) & (i == 2), 1, 0).astype(np.float32)
        at = run.predictions["test"].column_names.index(f"{name}_label")
        run.predictions["test"] = run.predictions["test"].set_column(at, f"{name}_label", pa.array(labels))
    text = text_of(run)
    assert_sound(text)
    assert "With 4 test clips with an emotion, `acc6` of 50.0 % is uncertain by 49.0 points" in text


def test_unimodal_results(tmp_path):
    numbers = {"mae": 0.91234, "corr": None, "acc2_has0": 0.625}
    unimodal = {
        "text": {"against": "own labels", "valid": numbers, "test": numbers},
        "audio": {"against": "multimodal labels", "valid": numbers, "test": {}},
    }
    text = text_of(made_run(tmp_path / "run", record={"unimodal": unimodal}))
    assert_sound(text)
    rows = table(text, "")
    assert rows["text alone"]["against"] == "own labels"
    assert [rows["text alone"][name] for name in ("mae", "corr", "acc2_has0", "acc7")] == ["0.912", "-", "62.5", "-"]
    assert set(rows["audio alone"].values()) == {"multimodal labels", "-"}
    assert "text_logits" in text
    assert "Each modality's own prediction" not in text_of(made_run(tmp_path / "run"))


# Robustness.


def write_robustness(folder, rows):
    fields = ("group", "run", "condition", "kept_modalities", "noise", "probability", "metric", "value")
    (folder / "robustness").mkdir(parents=True)
    with open(folder / "robustness" / "robustness.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*fields, "drop_percent", "samples_without_any_modality"])
        for group, run, condition, metric, value in rows:
            writer.writerow([group, run, condition, "text+audio", "", "", metric, value, "", 0])


@pytest.mark.parametrize("place", [".", "..", "../.."], ids=["run", "variant", "comparison"])
def test_robustness_is_that_of_the_group(place, tmp_path):
    path = tmp_path / "out" / "tfn" / "seed_1"
    path.mkdir(parents=True)
    rows = [
        ("tfn", f"seed_{seed}", condition, metric, value + seed)
        for seed in (1, 2)
        for condition, metric, value in (("all", "mae", 0.5), ("all", "acc2_has0", 0.25), ("only text", "mae", 1.0))
    ]
    rows += [("tfn", "seed_1", "only text", "acc2_has0", ""), ("other", "seed_1", "all", "mae", 77)]
    write_robustness(path / place, rows)
    text = text_of(made_run(path))
    assert_sound(text)
    header, *cells = next(found for found in tables(text) if [row[0] for row in found[1:2]] == ["all"])
    assert header == ["", "mae", "acc2_has0"]
    assert cells == [["all", shown("mae", [1.5, 2.5]), shown("acc2_has0", [1.25, 2.25])],
                     ["only text", shown("mae", [2.0, 3.0]), "-"]]  # fmt: skip
    assert "77" not in text
    assert "mean and standard deviation over 2 seeds" in " ".join(text.split())


def test_robustness_of_one_run_and_of_none(tmp_path):
    run = made_run(tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    assert "with noise" not in text_of(run)
    write_robustness(tmp_path, [("mine", "mine", "all", "mae", 0.5)])  # that of a folder of runs
    assert "with noise" not in text_of(run), "a run that is no seed is no part of what its parent folder measures"
    write_robustness(tmp_path / "mine", [("mine", "mine", "all", "mae", 0.5), ("mine", "mine", "all", "shift", 1)])
    text = text_of(run)
    assert_sound(text)
    assert table(text, "")["all"] == {"mae": "0.500"}
    assert "standard deviation over" not in text


# Training: stages, costs, machine.


def test_stages(tmp_path):
    recipe = {"stages": [{"name": name} for name, _, _ in STEPS_OF_TWO]}
    text = text_of(made_run(tmp_path / "run", stages=STEPS_OF_TWO, recipe=recipe))
    assert_sound(text)
    words = " ".join(text.split())
    assert "first (2 epochs, best 1), second (3 epochs, best 2)" in words
    assert "epoch 2 of 5" not in words, "the second epoch of the second stage is not one of all five"
    assert "| training time | 120 seconds |" in text
    assert "trained in stages" not in text_of(made_run(tmp_path / "run")).lower()


def test_a_run_that_kept_its_last_epoch_does_not_say_otherwise(tmp_path):
    for training in (
        {"load_best_model_at_end": False},
        {"load_best_model_at_end": False, "eval_strategy": "no", "metric_for_best_model": None},
    ):
        run = made_run(tmp_path / "run", stages=(("", 4.0, 4.0),), recipe={"training": {"seed": 1, **training}})
        text = text_of(run, runs=[run, made_run(tmp_path / "other", seed=2)])
        assert_sound(text)
        assert "the one with the best" not in " ".join(text.split())


def test_a_run_chosen_by_its_loss_has_a_card(tmp_path):
    """The loss is no result of the finished run."""
    training = {"seed": 1, "metric_for_best_model": "eval_loss", "greater_is_better": False}
    run = made_run(tmp_path / "run", recipe={"training": training})
    text = text_of(run, runs=[run, made_run(tmp_path / "other", seed=2)])
    assert_sound(text)
    assert "best `loss` on the validation split" in " ".join(text.split())


@pytest.mark.parametrize(
    ("energies", "wanted"),
    [
        ((0.0131, 0.03), "about 0.043 kWh for the whole machine, an estimate of codecarbon 3.0.1"),
        ((0.0131, None), "not measured"),
        ((None, None), "not measured"),
    ],
)
def test_energy(energies, wanted, tmp_path):
    recipe = {"stages": [{"name": name} for name, _, _ in STEPS_OF_TWO]}
    run = made_run(tmp_path / "run", stages=STEPS_OF_TWO, recipe=recipe)
    for stage, energy in zip(run.record["stages"], energies, strict=True):
        stage["energy_kwh"] = energy
    run.record["machine"] = {**MACHINE, "versions": {**MACHINE["versions"], "codecarbon": "3.0.1"}}
    text = text_of(run)
    assert_sound(text)
    assert wanted in next(line for line in text.splitlines() if line.startswith("| energy |"))


def test_a_gpu_and_what_is_not_known_of_a_machine(tmp_path):
    machine = {**MACHINE, "gpu": "NVIDIA H200", "processes": 2, "memory_gib": None, "processor": "x86 | 64"}
    text = text_of(made_run(tmp_path / "run", record={"machine": machine}, results={"peak_memory_mb": 2345.6}))
    assert_sound(text)
    hardware = next(line for line in text.splitlines() if line.startswith("| hardware |"))
    assert "2 x NVIDIA H200" in hardware and "GiB" not in hardware
    assert "| peak memory | 2,346 MiB |" in text
    other = text_of(made_run(tmp_path / "run"))
    assert "H200" not in other and "peak memory" not in other


def test_the_recipe_of_the_card_is_one(tmp_path):
    run = made_run(tmp_path / "run")
    (block,) = code_blocks(text_of(run), "yaml")
    assert yaml.safe_load(block)["data_sha256"] == "ab" * 32
    assert yaml.safe_load(block) == yaml.safe_load(run.recipe.to_yaml())


# What must not get in or out.


def test_a_card_gives_no_place_on_the_machine_away(tmp_path):
    """Wherever a recipe names a file; `feature_sets` are words, which publish.py reads for itself."""
    recipe = {
        "data_file": "/home/somebody/data/mine.pkl",
        "text_encoder": "/home/somebody/bert",
        "data_options": {
            "labels": "/home/somebody/labels.csv",
            "more": ["/home/somebody/a", {"b": "/home/somebody/b"}],
        },
        "training": {"seed": 1, "deepspeed": "/home/somebody/ds.json"},
        "stages": [{"name": "one", "training": {"fsdp_config": "/home/somebody/fsdp.json"}}],
    }
    run = made_run("/home/somebody/runs/run", recipe=recipe, stages=(("one", 2.0, 1.0),))
    text = text_of(run)
    assert "somebody" not in text and "/home" not in text
    assert_sound(text)
    (block,) = code_blocks(text, "yaml")
    published = yaml.safe_load(block)
    assert (published["data_file"], published["text_encoder"]) == ("mine.pkl", "bert")


def test_a_card_gives_no_token_away(tmp_path):
    recipe = {"training": {"seed": 1, "hub_token": "hf_secret"}}
    assert "hf_secret" not in text_of(made_run(tmp_path / "run", recipe=recipe))


NASTY = "a|b `c` *d* <img src=x> _e_ [f](g) {{ h }} # i"


def test_names_do_not_become_markup(tmp_path):
    run = made_run(tmp_path / "run", data=NASTY, record={"machine": {**MACHINE, "processor": NASTY, "gpu": NASTY}})
    run.processor.audio_feature_set = NASTY
    run.record["data"]["notes"] = [NASTY]
    text = text_of(run)
    tables(text)
    body = without_code(text)
    assert "<img" not in body and "*d*" not in body and "](g)" not in body
    assert body.count("{{ h }}") >= 4, "what a name holds is not a template"
    assert front_matter(text)["model-index"][0]["results"][0]["dataset"]["name"] == NASTY


# Real runs.


def test_the_card_of_a_real_run(trained):
    """Text tokens and features, from a file; written once more, it is the same byte for byte."""
    _, folder = trained
    path = folder / "run"
    text = (path / CARD_FILE).read_text(encoding="utf-8")
    assert_sound(text)
    assert str(folder) not in text and "data_file: data.pkl" in text
    results = json.loads((path / "all_results.json").read_text())
    _, found = model_index_to_eval_results(front_matter(text)["model-index"])
    for one in found:
        assert one.metric_value == pytest.approx(results[f"test_{one.metric_type}"], abs=5e-5)
    defined = {name for name in FinishedRun.of_folder(path).target.metric_names if results[f"test_{name}"] is not None}
    assert {one.metric_type for one in found} == defined and "mae" in defined
    rows = table(text, "metric")
    assert rows["`mae`"]["validation"] == f"{results['valid_mae']:.3f}"
    assert "train 24, valid 8, test 9 samples" in text
    assert {"text alone", "audio alone", "vision alone"} <= set(table(text, ""))

    again = folder / "again"
    again.mkdir()
    write_card(again, FinishedRun.of_folder(path))
    written = {file.name: file.read_bytes() for file in again.iterdir()}
    assert set(written) >= {CARD_FILE}
    for name, content in written.items():
        assert content == (path / name).read_bytes(), name


def test_pictures_are_shown_where_they_are(tmp_path):
    pytest.importorskip("matplotlib")
    run = made_run(tmp_path / "run")
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write_card(tmp_path / place, run, "org/a-model")
    text = (tmp_path / "a" / CARD_FILE).read_text(encoding="utf-8")
    assert_sound(text)
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert sorted(named) == sorted(file.name for file in (tmp_path / "a").iterdir() if file.suffix == ".png")
    assert set(named) == {"training.png", "predictions.png"}
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_the_margin_is_that_of_the_normal_approximation(tmp_path):
    run = made_run(tmp_path / "run", results={"test_acc2_has0": 0.9})
    for count in (25, 2500):
        run.record["data"]["splits"]["test"] = count
        points = 196 * np.sqrt(0.9 * 0.1 / count)
        assert f"uncertain by {points:.1f} points" in text_of(run)

"""The pictures of generated labels and of feature masks, and the numbers in them."""

import copy
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import plot_labels
import plot_masks
import train
from configuration.configuration_mmlatch import MMLatchConfig
from tests.conftest import TINY_RECIPE
from training.checkpoint import load_checkpoint, load_data, text_column
from training.corpus import prepare_split
from training.plots import pyplot, save

image = pytest.importorskip("matplotlib.image")
MODALITIES = ("text", "audio", "vision")
IDS = ["b", "a", "d", "c"]


def read(path):
    """A picture with something drawn on its white."""
    pixels = image.imread(path)
    assert pixels.ndim == 3 and min(pixels.shape[:2]) > 50
    assert (pixels[..., :3].min(axis=2) < 0.9).mean() > 0.005
    return pixels


# What plots share


@pytest.fixture
def figure():
    figure, axis = pyplot().subplots(figsize=(3, 2))
    axis.plot([0, 1], [1, 0])
    return figure


def test_kinds_of_files(figure, tmp_path):
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        save(figure, tmp_path / "new" / f"plot.{kind}")
        assert (tmp_path / "new" / f"plot.{kind}").read_bytes().startswith(start)
    assert len(list((tmp_path / "new").iterdir())) == 3  # nothing temporary stays
    assert read(tmp_path / "new" / "plot.png").shape[:2] == (300, 450)


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "png"])
def test_other_kinds_are_refused(figure, tmp_path, name):
    with pytest.raises(ValueError, match=rf"\.png, \.pdf or \.svg.*{name}"):
        save(figure, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_figures_are_closed(figure, tmp_path):
    assert pyplot().fignum_exists(figure.number)
    save(figure, str(tmp_path / "plot.png"))
    assert not pyplot().fignum_exists(figure.number)


def test_matplotlib_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install.*plots"):
        pyplot()


# Generated labels


@pytest.fixture
def labels():
    """Three epochs of four samples, rows in no order; text has no labels."""
    random = np.random.default_rng(0)
    rows = [(sample, epoch) for epoch in (3, 1, 2) for sample in IDS]
    rows = [rows[i] for i in random.permutation(len(rows))]
    return pa.table(
        {
            "id": [sample for sample, _ in rows],
            "epoch": pa.array([epoch for _, epoch in rows], pa.int32()),
            "text": pa.nulls(len(rows), pa.float32()),
            "audio": pa.array(random.uniform(-3, 3, len(rows)).astype(np.float32)),
            "vision": pa.array(random.uniform(-3, 3, len(rows)).astype(np.float32)),
        }
    )


@pytest.fixture
def run(labels, tmp_path):
    (tmp_path / "run").mkdir()
    pq.write_table(labels, tmp_path / "run" / "generated_labels.parquet")
    return tmp_path / "run"


def test_labels_by_epoch(labels):
    found = plot_labels.labels_by_epoch(labels)
    assert list(found) == ["audio", "vision"]
    rows = {(row["id"], row["epoch"]): row for row in labels.to_pylist()}
    for modality, by_epoch in found.items():
        assert list(by_epoch) == [1, 2, 3]
        for epoch, values in by_epoch.items():
            assert values.tolist() == [rows[sample, epoch][modality] for sample in sorted(IDS)]


@pytest.mark.parametrize(("epochs", "columns"), [([], 3), (["--epochs", "3", "1"], 2), (["--epochs", "2"], 1)], ids=str)
def test_picture_of_labels(run, epochs, columns, monkeypatch):
    """A row per modality and a column per epoch, each with how far its labels have moved."""
    drawn = {}

    def keep(figure, path):
        drawn["axes"] = [(axis.get_title(), sum(patch.get_height() for patch in axis.patches)) for axis in figure.axes]
        save(figure, path)

    monkeypatch.setattr(plot_labels, "save", keep)
    output = plot_labels.main([str(run), *epochs])
    assert output == run / "generated_labels.png"
    assert abs(read(output).shape[1] / 150 - (2.1 * columns + 0.6)) < 0.1
    labels = plot_labels.labels_by_epoch(pq.read_table(run / "generated_labels.parquet"))
    chosen = [int(epoch) for epoch in epochs[1:]] or [1, 2, 3]
    titles = []
    for by_epoch in labels.values():
        for epoch in chosen:
            moved = [abs(a - b) for a, b in zip(by_epoch[epoch], by_epoch.get(epoch - 1, by_epoch[epoch]), strict=True)]
            titles.append((f"#{epoch}, moved {sum(moved) / len(moved):.3f}", len(IDS)))
    assert drawn["axes"] == titles


def test_many_epochs_are_thinned(tmp_path, monkeypatch):
    """To six, the first and the last among them."""
    epochs = np.repeat(np.arange(1, 21), 2)
    table = pa.table({"id": ["a", "b"] * 20, "epoch": epochs, **dict.fromkeys(MODALITIES, np.sin(epochs))})
    titles = []
    monkeypatch.setattr(plot_labels, "save", lambda figure, path: titles.extend(a.get_title() for a in figure.axes))
    plot_labels.draw(table, None, tmp_path / "x.png")
    pyplot().close("all")
    chosen = [int(title[1:].partition(",")[0]) for title in titles[:6]]
    assert len(titles) == 18 and chosen[0] == 1 and chosen[-1] == 20 and chosen == sorted(set(chosen))
    assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_a_file_may_be_named_and_the_picture_too(run, tmp_path):
    output = tmp_path / "deep" / "labels.png"
    assert plot_labels.main([str(run / "generated_labels.parquet"), "--output", str(output)]) == output
    read(output)
    assert [path.name for path in run.iterdir()] == ["generated_labels.parquet"]


def test_labels_that_are_all_the_same(labels, tmp_path, monkeypatch):
    """As a run of one epoch has, on one sample: their bars have a width all the same."""
    widths = []

    def keep(figure, path):
        widths.extend(bar.get_width() for axis in figure.axes for bar in axis.patches if bar.get_height() > 0)
        save(figure, path)

    monkeypatch.setattr(plot_labels, "save", keep)
    same = pa.table({**{name: labels[name] for name in ("id", "epoch")}, **dict.fromkeys(MODALITIES, [0.5] * 12)})
    plot_labels.draw(same, None, tmp_path / "x.png")
    read(tmp_path / "x.png")
    assert len(widths) == 9 and min(widths) > 0.01


@pytest.mark.parametrize("epochs", [["4"], ["2", "0"]], ids=str)
def test_epochs_that_the_run_lacks(run, epochs):
    with pytest.raises(ValueError, match=rf"--epochs {epochs[-1]}: the run has the epochs 1 to 3"):
        plot_labels.main([str(run), "--epochs", *epochs])
    assert not (run / "generated_labels.png").exists()


def test_a_run_without_generated_labels(run, labels, tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=path.name):
            plot_labels.main([str(path)])
    none = pa.nulls(len(labels), pa.float32())
    for table in (
        labels.slice(0, 0),
        pa.table({"id": labels["id"], "epoch": labels["epoch"], **dict.fromkeys(MODALITIES, none)}),
    ):
        pq.write_table(table, run / "generated_labels.parquet")
        with pytest.raises(ValueError, match=r"generated_labels\.parquet holds no generated labels"):
            plot_labels.main([str(run)])


# Feature masks: classes and their means


@pytest.mark.parametrize(
    ("label_range", "labels", "classes"),
    [
        ((-3, 3), [-3, -2.6, -2.5, -1.5, -0.5, -0.4, 0], [0, 0, 1, 1, 3, 3, 3]),
        ((-3, 3), [0.5, 0.6, 1.5, 2.4, 2.5, 3], [3, 4, 5, 5, 5, 6]),
        ((-1, 1), [-1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1], [0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6]),
        ((-1, 3), [-1, -0.5, 0.4, 1, 3], [0, 1, 3, 4, 6]),  # each side by itself
        ((-3, 3), [-3.4, 3.2, 9], [0, 6, 6]),
    ],
    ids=["mosi", "mosi, positive", "sims", "lopsided", "beyond"],
)  # fmt: skip
def test_sentiment_classes(label_range, labels, classes):
    found = plot_masks.sentiment_classes(np.array(labels, float), label_range)
    assert found.tolist() == classes


def test_means_by_class():
    random = np.random.default_rng(1)
    classes = np.array([0, 3, 3, 6, 6, 6, 1])
    masks = {"audio": random.uniform(size=(7, 5)), "text": random.uniform(size=(7, 2))}
    masks["audio"][[2, 6]] = np.nan  # lack audio: of class 1 nothing is left
    rows = plot_masks.by_class(masks, classes).to_pylist()
    expected = []
    for modality, values in masks.items():
        for name in (*plot_masks.CLASSES, "all"):
            members = [
                row
                for row, number in zip(values, classes, strict=True)
                if name in (plot_masks.CLASSES[number], "all") and not np.isnan(row[0])
            ]
            for feature in range(values.shape[1] if members else 0):
                mean = sum(row[feature] for row in members) / len(members)
                expected.append((modality, name, feature, len(members), pytest.approx(mean, rel=1e-12)))
    assert [(r["modality"], r["sentiment"], r["feature"], r["samples"], r["mask"]) for r in rows] == expected
    assert {r["sentiment"] for r in rows if r["modality"] == "audio"} == {"neg++", "neu", "pos++", "all"}
    assert {r["samples"] for r in rows if r["sentiment"] == "all"} == {5, 7}


# Feature masks of a checkpoint


@pytest.fixture(scope="module")
def latched(tmp_path_factory):
    """The folder of a tiny MMLatch run, a third of whose modalities is missing."""
    folder = tmp_path_factory.mktemp("latched")
    recipe = copy.deepcopy(TINY_RECIPE)
    recipe |= {"model_type": "mmlatch", "label_generation": "none"}
    recipe["model"] = {"text_config": recipe["model"]["text_config"], "hidden_size": 8}
    recipe["synthetic"] = {"train": 24, "valid": 8, "test": 20, "seed": 3, "missing": 0.3}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    train.main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "run"), "--num_train_epochs", "1"])
    return folder / "run"


@pytest.fixture(scope="module")
def loaded(latched):
    model, processor = load_checkpoint(str(latched))
    corpus, recipe = load_data(str(latched))
    return model, processor, prepare_split(corpus.splits["test"], processor, text_column(corpus, processor, recipe))


@pytest.fixture(scope="module")
def one_by_one(loaded):
    """Each sample's mean mask, the sample alone and unpadded; NaN where it lacks the modality or has no other."""
    model, _, rows = loaded
    widths = {"text": 16, "audio": model.config.audio_feature_size, "vision": model.config.vision_feature_size}
    found = {modality: np.full((len(rows), width), np.nan) for modality, width in widths.items()}
    for i, row in enumerate(rows):
        names = {"text": "input_ids", **{m: f"{m}_values" for m in ("audio", "vision")}}
        inputs = {name: torch.tensor(np.asarray(row[name]))[None].to(model.device) for name in names.values()}
        inputs = {name: values for name, values in inputs.items() if values.shape[1] > 0}
        inputs = {name: values.long() if name == "input_ids" else values.float() for name, values in inputs.items()}
        with torch.no_grad():
            outputs = model(**inputs)
        for modality, name in names.items():
            if name in inputs and len(inputs) > 1:
                found[modality][i] = outputs[f"{modality}_mask_values"][0].mean(dim=0).cpu().numpy()
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_mean_masks(loaded, one_by_one, batch_size):
    model, processor, rows = loaded
    found = plot_masks.mean_masks(model, processor, rows, MODALITIES, batch_size)
    assert list(found) == list(MODALITIES)
    for modality, values in found.items():
        np.testing.assert_allclose(values, one_by_one[modality], atol=1e-5)
        lacking = np.isnan(values).any(axis=1)
        assert 0 < lacking.sum() < len(rows)
        assert np.ptp(values[~lacking]) > 1e-3 and 0 < values[~lacking].min() <= values[~lacking].max() <= 1


def test_table_and_pictures(latched, loaded, one_by_one, tmp_path, capsys):
    output = tmp_path / "deep" / "masks.parquet"
    assert plot_masks.main([str(latched), "--output", str(output), "--batch_size", "6"]) == output
    pictures = [output.with_name(f"masks_{modality}.png") for modality in MODALITIES]
    assert sorted(output.parent.iterdir()) == sorted([output, *pictures])
    assert capsys.readouterr().out.strip() == "Wrote " + ", ".join(map(str, (output, *pictures)))
    for picture in pictures:
        read(picture)
    table = pq.read_table(output)
    assert table.column_names == ["modality", "sentiment", "feature", "mask", "samples"]
    labels = np.asarray(loaded[2]["label"][:], float)
    for row in table.to_pylist():
        values = one_by_one[row["modality"]]
        members = [
            i
            for i, label in enumerate(labels)
            if row["sentiment"] in ("all", plot_masks.CLASSES[round(label) + 3]) and not np.isnan(values[i, 0])
        ]
        assert row["samples"] == len(members)
        assert row["mask"] == pytest.approx(np.mean([values[i, row["feature"]] for i in members]), abs=1e-5)
    widths = {m: {row["feature"] for row in table.to_pylist() if row["modality"] == m} for m in MODALITIES}
    assert widths == {m: set(range(values.shape[1])) for m, values in one_by_one.items()}


def test_a_modality_that_no_sample_has(latched, monkeypatch, tmp_path):
    """Nothing is written."""
    monkeypatch.setattr(plot_masks, "mean_masks", lambda *_: {"audio": np.full((2, 3), np.nan)})
    with pytest.raises(ValueError, match="No sample of the split has audio"):
        plot_masks.main([str(latched), "--output", str(tmp_path / "masks.parquet")])
    assert list(tmp_path.iterdir()) == []


def test_some_modalities_of_another_split_beside_the_checkpoint(latched, tmp_path):
    shutil.copytree(latched, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    before = {path.name for path in (tmp_path / "run").iterdir()}
    output = plot_masks.main([str(tmp_path / "run"), "--split", "valid", "--modality", "vision"])
    assert {path.name for path in (tmp_path / "run").iterdir()} - before == {
        "feature_masks.parquet",
        "feature_masks_vision.png",
    }
    rows = pq.read_table(output).to_pylist()
    assert {row["modality"] for row in rows} == {"vision"} and max(row["samples"] for row in rows) <= 8


def test_heat_map_of_the_classes(tmp_path, monkeypatch):
    """Rows are the classes that have samples, from negative to positive, without "all"."""
    masks = np.arange(12.0).reshape(4, 3) / 12
    table = plot_masks.by_class({"audio": masks, "text": masks * 0}, np.array([6, 0, 3, 6]))
    drawn = {}

    def keep(figure, path):
        axis = figure.axes[0]
        drawn.update(grid=axis.images[0].get_array(), names=[label.get_text() for label in axis.get_yticklabels()])
        save(figure, path)

    monkeypatch.setattr(plot_masks, "save", keep)
    plot_masks.draw(table, "audio", tmp_path / "x.png")
    read(tmp_path / "x.png")
    assert drawn["names"] == ["neg++ (1)", "neu (1)", "pos++ (2)"]
    np.testing.assert_allclose(drawn["grid"], [masks[1], masks[2], (masks[0] + masks[3]) / 2])


def test_a_checkpoint_of_another_architecture(trained):
    with pytest.raises(ValueError, match="has no feature masks.*MMLatch with feedback"):
        plot_masks.main([str(trained[1] / "run")])


def no_checkpoint(monkeypatch, **fields):
    config = MMLatchConfig(audio_feature_size=5, hidden_size=8, **fields)
    monkeypatch.setattr(plot_masks, "load_checkpoint", lambda folder: (SimpleNamespace(config=config), None))


def test_a_checkpoint_without_feedback(monkeypatch):
    no_checkpoint(monkeypatch, feedback="none")
    with pytest.raises(ValueError, match="^some run has no feature masks"):
        plot_masks.main(["some run"])


def test_modalities_that_the_checkpoint_lacks(monkeypatch):
    no_checkpoint(monkeypatch, vision_feature_size=4)
    with pytest.raises(ValueError, match="--modality text: .*trained with audio, vision"):
        plot_masks.main(["some run", "--modality", "vision", "text"])

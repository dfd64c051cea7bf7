"""The pictures of a card: what is drawn of a run, what is copied, and nothing where matplotlib is missing."""

import struct
import sys
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plot_labels
import plot_masks
from datasets_scripts import MODALITIES
from tests.training.card_runs import made_predictions, made_run
from training.card_pictures import copy_pictures, draw_predictions, draw_training

pyplot = pytest.importorskip("matplotlib.pyplot")

STAGES = (("first", 2.0, 1.0), ("second", 3.0, 2.0))


def size_of(path):
    """Width and height in pixels, by the header of a PNG file."""
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:])


def assert_picture(picture, folder):
    name, shown = picture
    assert [path.name for path in folder.iterdir()] == [name] and name.endswith(".png")
    assert 10 < len(shown) < 120 and not set(shown) & set("[]()\n")
    width, height = size_of(folder / name)
    assert 500 < width < 2000 and 500 < height < 2000
    assert 5_000 < (folder / name).stat().st_size < 300_000
    pixels = pyplot.imread(folder / name)
    assert pixels.std() > 0.02, "an empty picture"


@pytest.fixture
def figures(monkeypatch):
    """Figures as they were when they were saved."""
    seen = []
    monkeypatch.setattr("training.card_pictures.save", lambda figure, path: seen.append((figure, path)))
    yield seen
    pyplot.close("all")


def lines_of(axis):
    """What was drawn over several epochs, as lists of pairs; vertical lines have one epoch only."""
    drawn = [np.column_stack(line.get_data()).tolist() for line in axis.get_lines()]
    return [line for line in drawn if len({x for x, _ in line}) > 1]


def test_training_is_drawn(tmp_path):
    pyplot.close("all")  # whatever other tests have left open
    assert_picture(draw_training(made_run(tmp_path / "run"), tmp_path), tmp_path)
    assert not pyplot.get_fignums()


def test_predictions_are_drawn(tmp_path):
    pyplot.close("all")
    picture = draw_predictions(made_run(tmp_path / "run"), tmp_path)
    assert_picture(picture, tmp_path)
    assert "12 test samples" in picture[1]
    assert not pyplot.get_fignums()


def test_what_the_picture_of_a_training_shows(figures, tmp_path):
    run = made_run(tmp_path / "run", "emotions", stages=STAGES)
    draw_training(run, tmp_path)
    ((figure, path),) = figures
    assert path == tmp_path / "training.png"
    above, below = figure.axes
    # Stages one after the other, each epoch where it lies in the whole training.
    assert lines_of(above) == [[[1, 1], [2, 1 / 2]], [[3, 1], [4, 1 / 2], [5, 1 / 3]]]
    assert lines_of(below) == [[[1, 0.6], [2, 0.5]], [[3, 0.5], [4, 0.6], [5, 0.5]]]
    kept = [line.get_xdata()[0] for line in below.get_lines() if len(set(line.get_xdata())) == 1]
    assert kept == [1, 4]
    assert "wa_avg" in below.get_ylabel() and "loss" in above.get_ylabel()
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["first", "second"]


def test_an_epoch_without_a_loss_is_a_gap(figures, tmp_path):
    run = made_run(tmp_path / "run")
    history = run.record["stages"][0]["history"]
    history[0]["loss"], history[2]["valid_mae"] = None, None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_training(run, tmp_path)
    above, below = figures[0][0].axes
    ((first, second, *_),) = lines_of(above)
    assert np.isnan(first[1]) and second[1] == 0.5
    assert np.isnan(lines_of(below)[0][2][1])


def test_a_stage_chosen_by_another_metric(figures, tmp_path):
    """The axis says what it shows, also where the last stage was chosen by the loss."""
    stages = [{"name": "first"}, {"name": "second", "training": {"metric_for_best_model": "loss"}}]
    run = made_run(tmp_path / "run", stages=STAGES, recipe={"stages": stages})
    draw_training(run, tmp_path)
    below = figures[0][0].axes[1]
    assert below.get_ylabel() == "validation loss"
    assert lines_of(below)[0] == [[1, 1.5], [2, 0.75]]


def test_a_training_without_evaluations_is_not_drawn(tmp_path):
    run = made_run(tmp_path / "run")
    run.record["stages"][0]["history"] = []
    assert draw_training(run, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_training_without_any_loss_is_drawn(tmp_path):
    run = made_run(tmp_path / "run")
    for entry in run.record["stages"][0]["history"]:
        entry["loss"] = None
    assert_picture(draw_training(run, tmp_path), tmp_path)


def test_what_the_picture_of_predictions_shows(figures, tmp_path):
    run = made_run(tmp_path / "run")
    draw_predictions(run, tmp_path)
    (axis,) = figures[0][0].axes
    (points,) = axis.collections
    table = run.predictions["test"]
    np.testing.assert_allclose(points.get_offsets()[:, 0], table["label"].to_numpy())
    np.testing.assert_allclose(points.get_offsets()[:, 1], table["prediction"].to_numpy())
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("label", "prediction")


@pytest.mark.parametrize("target", ["sentiment2", "sentiment7", "emotions", "emotion"])
def test_classes_are_not_drawn_as_numbers(target, tmp_path):
    assert draw_predictions(made_run(tmp_path / "run", target), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_samples_without_a_label_are_left_out(tmp_path):
    run = made_run(tmp_path / "run")
    table = made_predictions(run.target, np.random.default_rng(1))
    labels = pa.array([None, *table["label"].to_pylist()[1:]], pa.float32())
    run.predictions["test"] = table.set_column(table.column_names.index("label"), "label", labels)
    assert_picture(draw_predictions(run, tmp_path), tmp_path)


def test_without_matplotlib_there_are_no_pictures(tmp_path, monkeypatch):
    run = made_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw_training(run, tmp_path) is None and draw_predictions(run, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for draw in (draw_training, draw_predictions):
        contents = []
        for place in ("a", "b"):
            (tmp_path / place).mkdir(exist_ok=True)
            name, _ = draw(made_run(tmp_path / "run"), tmp_path / place)
            contents.append((tmp_path / place / name).read_bytes())
        assert contents[0] == contents[1]


# What other programs have drawn of the run.


def test_nothing_is_copied_where_nothing_was_drawn(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something.png").write_bytes(b"other")
    (tmp_path / "card").mkdir()
    assert copy_pictures(made_run(tmp_path / "run"), tmp_path / "card") == []
    assert list((tmp_path / "card").iterdir()) == []


def test_the_picture_of_plot_labels_is_copied(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "card").mkdir()
    random = np.random.default_rng(0)
    labels = {modality: random.uniform(-3, 3, 20) for modality in MODALITIES}
    table = pa.table({"id": [f"s{i % 10}" for i in range(20)], "epoch": [1] * 10 + [2] * 10, **labels})
    pq.write_table(table, tmp_path / "run" / "generated_labels.parquet")
    plot_labels.main([str(tmp_path / "run")])
    ((name, shown),) = copy_pictures(made_run(tmp_path / "run"), tmp_path / "card")
    assert "labels" in shown
    assert (tmp_path / "card" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    assert size_of(tmp_path / "card" / name) > (500, 100)


def test_the_pictures_of_plot_masks_are_copied(tmp_path, monkeypatch):
    """By the names that the program itself gives them; the model and its data are left out."""
    (tmp_path / "run").mkdir()
    (tmp_path / "card").mkdir()
    run = made_run(tmp_path / "run")
    run.config.feedback = "mask"
    labels = {"label": np.linspace(-3, 3, 9)}
    masks = {modality: np.full((9, 4), 0.5) for modality in ("audio", "vision")}
    corpus = type("Corpus", (), {"split": lambda self, name: labels})()
    monkeypatch.setattr(plot_masks, "load_checkpoint", lambda folder: (type("M", (), {"config": run.config}), None))
    monkeypatch.setattr(plot_masks, "load_data", lambda folder, file: (corpus, None))
    monkeypatch.setattr(plot_masks, "text_column", lambda *_: None)
    monkeypatch.setattr(plot_masks, "prepare_split", lambda rows, *_: rows)
    monkeypatch.setattr(plot_masks, "mean_masks", lambda *_: masks)
    plot_masks.main([str(tmp_path / "run")])
    found = copy_pictures(run, tmp_path / "card")
    assert [modality for name, _ in found for modality in MODALITIES if modality in name] == ["audio", "vision"]
    for name, shown in found:
        assert "mask" in shown
        assert (tmp_path / "card" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()

"""The same corpus in every layout: the same rows, and training to the same weights, bit for bit."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import predict
import train
from datasets_scripts import MODALITIES, load_dataset
from tests.conftest import TINY_RECIPE
from tests.layouts import LAYOUTS, make_rows

MODEL = {name: value for name, value in TINY_RECIPE["model"].items() if name != "text_config"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_those_that_were_written(layout, tmp_path):
    splits = make_rows()
    rows = load_dataset(LAYOUTS[layout](splits, tmp_path), cache_dir=tmp_path / "cache")
    assert list(rows) == list(splits)
    for split, expected in splits.items():
        assert len(rows[split]) == len(expected)
        for row, wanted in zip(rows[split], expected, strict=True):
            assert row["id"].partition("$_$")[0] == wanted["id"].partition("$_$")[0]
            assert row["label"] == wanted["label"]
            for modality in MODALITIES:
                np.testing.assert_array_equal(row[f"{modality}_values"], wanted[f"{modality}_values"])


def test_training_on_any_layout_gives_the_same_result(tiny_recipe, tmp_path):
    splits, recipe = make_rows(), tiny_recipe(model=MODEL, synthetic=None)
    runs = {}
    for layout, write in LAYOUTS.items():
        folder, out = tmp_path / layout, tmp_path / f"run_{layout}"
        folder.mkdir()
        arguments = [recipe, "--data_file", str(write(splits, folder)), "--output_dir", str(out)]
        results = train.main([*arguments, "--num_train_epochs", "2"])
        scores = {name: value for name, value in results.items() if name.startswith(("valid_", "test_"))}
        runs[layout] = (scores, load_file(out / "model.safetensors"), out)
    first_scores, first_weights, first_out = runs.pop("mmsa")
    assert np.isfinite(first_scores["test_mae"])
    for layout, (scores, weights, out) in runs.items():
        assert scores == first_scores, layout
        assert weights.keys() == first_weights.keys()
        assert all(torch.equal(weights[name], first_weights[name]) for name in weights), layout
        for split in ("valid", "test"):
            predictions, expected = (
                pq.read_table(folder / f"predictions_{split}.parquet") for folder in (out, first_out)
            )
            assert predictions.drop(["id"]).equals(expected.drop(["id"])), layout


def test_options_of_a_reader_belong_to_the_recipe(tiny_recipe, tmp_path):
    source = LAYOUTS["csd"](make_rows(), tmp_path)
    recipe = tiny_recipe(model=MODEL, synthetic=None, data_file=str(source))
    arguments = ["--num_train_epochs", "1", "--data_options.align"]
    train.main([recipe, "--output_dir", str(tmp_path / "words"), *arguments, "words"])
    train.main([str(tmp_path / "words" / "recipe.yaml"), "--output_dir", str(tmp_path / "again")])
    train.main([recipe, "--output_dir", str(tmp_path / "labels"), *arguments, "labels"])
    words, again, labels = (
        pq.read_table(tmp_path / name / "predictions_test.parquet") for name in ("words", "again", "labels")
    )
    assert words.equals(again) and not words.equals(labels)  # as many steps as words, or as frames
    with pytest.raises(ValueError, match="`align` must be one of"):
        train.main([recipe, "--output_dir", str(tmp_path / "run"), *arguments, "phones"])
    with pytest.raises(ValueError, match="`aling` is not an option .*did you mean `align`"):
        train.main([recipe, "--output_dir", str(tmp_path / "run"), "--data_options.aling", "words"])


def test_rows_without_labels_or_splits(tiny_recipe, tmp_path, capsys):
    rows = make_rows()["test"]
    columns = {
        "id": [row["id"] for row in rows],
        **{f"{m}_values": [row[f"{m}_values"].tolist() for row in rows] for m in MODALITIES},
    }
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    pq.write_table(pa.table(columns), unlabelled / "test.parquet")
    recipe, source = tiny_recipe(model=MODEL, synthetic=None), LAYOUTS["mmsa"](make_rows(), tmp_path)
    with pytest.raises(ValueError, match="unlabelled has no train split, only test"):
        train.main([recipe, "--data_file", str(unlabelled), "--output_dir", str(tmp_path / "run")])
    out = tmp_path / "run"
    train.main([recipe, "--data_file", str(source), "--output_dir", str(out), "--num_train_epochs", "1"])
    capsys.readouterr()
    table = tmp_path / "table.parquet"
    predict.main([str(out), "--data_file", str(unlabelled), "--output", str(table)])
    predicted, expected = pq.read_table(table), pq.read_table(out / "predictions_test.parquet")
    assert predicted["prediction"].equals(expected["prediction"]) and predicted["label"].null_count == 8
    with pytest.raises(ValueError, match="has no valid split"):
        predict.main([str(out), "--data_file", str(unlabelled), "--split", "valid"])

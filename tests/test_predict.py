"""Predictions with a run's folder: tables, one text, and data that does not fit the checkpoint."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

import predict


def table_of(arguments, path):
    predict.main([*arguments, "--output", str(path)])
    return pq.read_table(path)


def test_predictions_are_those_of_the_run(trained, mmsa_file, tmp_path, capsys):
    content, folder = trained
    file = mmsa_file(content)
    for split in ("valid", "test"):
        table = table_of([str(folder / "run"), "--data_file", file, "--split", split], tmp_path / "p.parquet")
        expected = pq.read_table(folder / "run" / f"predictions_{split}.parquet")
        assert table.column_names == expected.column_names
        assert table["id"].equals(expected["id"])
        for name in expected.column_names[1:]:
            np.testing.assert_allclose(table[name].to_numpy(), expected[name].to_numpy(), atol=1e-6)
    assert "mae " in capsys.readouterr().out


def test_the_data_of_the_recipe_is_the_default(trained, mmsa_file, capsys):
    _, folder = trained
    predict.main([str(folder / "run"), "--split", "valid", "--limit", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["valid$_$0", "valid$_$1", "valid$_$2"]
    assert "mae" not in lines[-1]  # three samples are not the split


def test_one_text(trained, capsys):
    _, folder = trained
    predict.main([str(folder / "run"), "--text", "this is good"])
    assert "sentiment " in capsys.readouterr().out


def test_data_that_lacks_a_modality(trained, mmsa_file, tmp_path):
    content, folder = trained
    less = {name: {k: v for k, v in split.items() if "vision" not in k} for name, split in content.items()}
    table = table_of([str(folder / "run"), "--data_file", mmsa_file(less)], tmp_path / "p.parquet")
    assert table["vision_prediction"].null_count == len(table)
    assert table["audio_prediction"].null_count == 0
    assert np.isfinite(table["prediction"].to_numpy()).all()


def test_data_without_text(trained, mmsa_file, tmp_path):
    content, folder = trained
    less = {name: {k: v for k, v in split.items() if "text" not in k} for name, split in content.items()}
    table = table_of([str(folder / "run"), "--data_file", mmsa_file(less)], tmp_path / "p.parquet")
    assert table["text_prediction"].null_count == len(table)
    assert np.isfinite(table["prediction"].to_numpy()).all()


def test_wrong_feature_size_against_a_checkpoint(trained, mmsa_file, tmp_path):
    content, folder = trained
    wrong = {name: {**split, "audio": np.repeat(split["audio"], 2, axis=2)} for name, split in content.items()}
    with pytest.raises(ValueError, match=r"`audio_values` has 8 features per step.*trained on 4.*extract"):
        table_of([str(folder / "run"), "--data_file", mmsa_file(wrong)], tmp_path / "p.parquet")
    assert not list(tmp_path.glob("*p.parquet*"))


def test_a_folder_without_a_recipe_needs_data(trained, tmp_path):
    _, folder = trained
    shutil.copytree(folder / "run", tmp_path / "copy", ignore=shutil.ignore_patterns("recipe.yaml", "checkpoint-*"))
    with pytest.raises(ValueError, match="no recipe.yaml.*--data_file"):
        predict.main([str(tmp_path / "copy")])


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises((OSError, ValueError), match="nowhere"):
        predict.main([str(tmp_path / "nowhere"), "--text", "hello"])

"""Training on rows that are read while it goes on."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import prepare_data
import train
from datasets_scripts import PreparedFolder, SyntheticCorpus, load_dataset
from tests.conftest import TINY_RECIPE
from tests.layouts import make_rows, write_mmsa, write_prepared
from training.corpus import load_corpus, prepare_split, streamed_splits
from training.mapped_rows import MappedRows
from training.progress import EpochLine
from training.streaming import StreamedRows

MODEL = {name: value for name, value in TINY_RECIPE["model"].items() if name != "text_config"}


@pytest.fixture
def prepared(tmp_path):
    return write_prepared(make_rows(), tmp_path)


def same(row, other):
    assert row.keys() == other.keys()
    for name in row:
        np.testing.assert_array_equal(row[name], other[name])


def test_streamed_rows_are_those_of_the_folder(prepared):
    rows = load_dataset(prepared)
    for split, streamed in streamed_splits(PreparedFolder(prepared)).items():
        assert isinstance(streamed, StreamedRows)
        assert len(streamed) == len(rows[split]) and streamed.features == {
            name: rows[split].features[name] for name in streamed.column_names
        }
        assert sorted(streamed.column_names) == sorted(rows[split].column_names)
        for row, wanted in zip(streamed, rows[split], strict=True):
            same(row, wanted)
        chosen = [5, 2, 6]
        assert [row["id"] for row in streamed.select(chosen)] == [rows[split][i]["id"] for i in sorted(chosen)]


def test_the_order_is_that_of_seed_and_epoch(prepared):
    streamed = streamed_splits(PreparedFolder(prepared))["train"]
    everything = [row["id"] for row in streamed]
    orders = {}
    for seed, epoch in ((1, 0), (1, 1), (2, 0)):
        shuffled = streamed.shuffled(seed, 8)
        shuffled.set_epoch(epoch)
        orders[seed, epoch] = [row["id"] for row in shuffled]
        assert [row["id"] for row in shuffled] == orders[seed, epoch]
        assert sorted(orders[seed, epoch]) == sorted(everything) and orders[seed, epoch] != everything
    assert len({tuple(order) for order in orders.values()}) == 3
    assert [row["id"] for row in streamed.shuffled(1, 1)] == everything
    workers = torch.utils.data.DataLoader(streamed.shuffled(1, 8), batch_size=None, num_workers=2)
    assert sorted(row["id"] for row in workers) == sorted(everything)  # each row once, whoever reads it


def test_mapped_rows_are_those_of_the_table(prepared):
    table = load_dataset(prepared)["train"]
    mapped = MappedRows(table)
    assert len(mapped) == len(table) and mapped.column_names == table.column_names
    for index in (0, 7, 31):
        same(mapped[index], table[index])
    for row, index in zip(mapped.__getitems__([3, 1, 3]), (3, 1, 3), strict=True):
        same(row, table[index])
    same({"label": mapped["label"][:]}, {"label": table["label"][:]})
    for wrong in (-1, 32):
        with pytest.raises(IndexError, match="There are 32 rows"):
            mapped[wrong]
    picked = MappedRows(table.select([9, 4, 30]))
    same(picked[2], table[30])
    sliced = MappedRows(table.select(range(5, 12)))
    same(sliced[3], table[8])
    workers = torch.utils.data.DataLoader(mapped, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    for row, wanted in zip(workers, table, strict=True):
        np.testing.assert_array_equal(row["audio_values"], wanted["audio_values"])


class KilledError(Exception):
    pass


def test_a_streamed_run_resumes_to_the_same_result(tiny_recipe, prepared, tmp_path, monkeypatch):
    recipe = tiny_recipe(model=MODEL, synthetic=None, data_file=str(prepared), streaming=True, shuffle_buffer=10)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    steps = ("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2")
    results = train.main([recipe, "--output_dir", str(whole), *steps])

    def die(self, args, state, control, **kwargs):
        if state.global_step == 7:  # in the second epoch of four steps
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EpochLine, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            train.main([recipe, "--output_dir", str(broken), *steps])
    again = train.main([recipe, "--output_dir", str(broken), *steps, "--resume_from_checkpoint", "true"])
    assert {name: results[name] for name in results if name.startswith("test_")} == {
        name: again[name] for name in again if name.startswith("test_")
    }
    ours, theirs = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("generated_labels.parquet", "predictions_test.parquet"):
        assert pq.read_table(whole / name).equals(pq.read_table(broken / name))


def test_a_run_on_tokens_and_a_target_that_leaves_rows_out(tiny_recipe, tmp_path):
    corpus = SyntheticCorpus(train=48, valid=16, test=16, emotions=True).build()
    folder = tmp_path / "own"
    folder.mkdir()
    for split, rows in corpus.items():
        rows.to_parquet(folder / f"{split}.parquet")
    prepared = tmp_path / "prepared"
    prepare_data.main([str(folder), "--output", str(prepared)])
    recipe = tiny_recipe(
        synthetic=None, data_file=str(prepared), streaming=True, label_generation="none", normalize=["audio"],
        training={**TINY_RECIPE["training"], "metric_for_best_model": "acc6"},
        model={**TINY_RECIPE["model"], "target": "emotion", "tasks": ["M"]},
    )  # fmt: skip
    results = train.main([recipe, "--output_dir", str(tmp_path / "run")])
    table = pq.read_table(tmp_path / "run" / "predictions_test.parquet")
    with_any = [row["id"] for row in corpus["test"] if row["emotions"].any()]
    assert 0 < len(with_any) < 16 and table["id"].to_pylist() == with_any
    assert np.isfinite(results["test_acc6"])


def test_what_is_said_of_streaming_something_else(tiny_recipe, tmp_path):
    source = write_mmsa(make_rows(), tmp_path)
    with pytest.raises(ValueError, match=r"`streaming` reads a folder of Parquet, but .*prepare_data\.py"):
        load_corpus(str(source), streaming=True)
    for wrong in ({"streaming": True}, {"streaming": "yes"}, {"shuffle_buffer": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
            train.main([tiny_recipe(**wrong), "--output_dir", str(tmp_path / "run")])


def test_predictions_do_not_depend_on_how_rows_are_read(prepared):
    from configuration import SelfMMConfig
    from modeling import SelfMMModel
    from processing import MultimodalProcessor
    from training.prediction import predict_rows

    sizes = {"text_feature_size": 5, "audio_feature_size": 4, "vision_feature_size": 3}
    processor = MultimodalProcessor(None, text_input="values", **sizes)
    torch.manual_seed(0)
    model = SelfMMModel(SelfMMConfig(**sizes, **MODEL)).eval()
    splits = load_corpus(str(prepared)).splits, load_corpus(str(prepared), streaming=True).splits
    tables = [
        predict_rows(model, processor, prepare_split(part["test"], processor, "text_values"), 3) for part in splits
    ]
    assert tables[0]["id"].equals(tables[1]["id"])
    np.testing.assert_allclose(tables[0]["prediction"].to_numpy(), tables[1]["prediction"].to_numpy(), atol=1e-6)

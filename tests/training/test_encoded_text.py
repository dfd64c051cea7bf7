"""A text encoder that is not trained: its outputs on disk, and trainings that read them."""

import copy
import errno
import json
import pickle
import shutil

import datasets
import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, TrainingArguments, set_seed
from transformers.models.bert.modeling_bert import BertModel

import train
from datasets_scripts import PreparedFolder, SyntheticCorpus, load_dataset
from modeling import MagBertModel
from tests.conftest import TINY_RECIPE, killed_run
from tests.layouts import make_rows, write_prepared
from tests.training.processes import in_processes
from training import encoded_text
from training.collator import MultimodalCollator
from training.corpus import Corpus, prepare_split, streamed_splits
from training.encoded_text import STATES, groups, with_text_states
from training.factory import build_model, build_processor
from training.recipe import Recipe

FROZEN = {**TINY_RECIPE, "frozen": ["text_encoder"], "modality_dropout": 0.2}
COSTS = ("train_seconds", "seconds_per_epoch", "peak_memory_mb")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / STATES


class Setting:
    """Prepared splits with some empty texts, their processor, and a model whose text encoder is frozen."""

    def __init__(self, folder, splits=None, **changes):
        self.recipe = Recipe.from_dict({**FROZEN, **changes})
        corpus = Corpus(splits or SyntheticCorpus(**TINY_RECIPE["synthetic"]).build(), "made", None, [])
        self.processor = build_processor(self.recipe, corpus, "raw_text")
        set_seed(5)
        self.model = build_model(self.recipe, self.processor)
        self.model.text_encoder.requires_grad_(False)
        self.splits = {name: prepare_split(rows, self.processor, "raw_text") for name, rows in corpus.splits.items()}
        self.args = TrainingArguments(str(folder), use_cpu=True)

    def encoded(self, precision="float32"):
        return with_text_states(self.splits, self.model, self.processor, self.args, precision)

    def expected(self, tokens):
        """The states of one text, alone and without padding."""
        if len(tokens) == 0:
            return np.zeros((0, 16), np.float32)
        encoder = copy.deepcopy(self.model.text_encoder).eval()
        with torch.no_grad():
            return encoder(input_ids=torch.as_tensor(np.asarray(tokens))[None]).last_hidden_state[0].numpy()


@pytest.fixture
def setting(tmp_path):
    return Setting(tmp_path / "run")


@pytest.fixture
def calls(monkeypatch):
    """How many texts went through the encoder, a number per call."""
    found, forward = [], BertModel.forward

    def counting(self, input_ids=None, *args, **kwargs):
        found.append(len(input_ids))
        return forward(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(BertModel, "forward", counting)
    return found


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 2e-3)])
@pytest.mark.parametrize("budget", [None, 20])
def test_states_are_those_of_each_text_alone(setting, monkeypatch, precision, tolerance, budget):
    if budget is not None:  # many windows of a few rows, and batches of one or two
        monkeypatch.setattr(encoded_text, "WINDOW_TOKENS", budget * 3)
        monkeypatch.setattr(encoded_text, "BATCH_TOKENS", budget)
    setting.model.train()
    encoded = setting.encoded(precision)
    assert setting.model.training and setting.model.device.type == "cpu"
    assert encoded["test"] is setting.splits["test"]
    lengths = set()
    for name in ("train", "valid"):
        assert len(encoded[name]) == len(setting.splits[name])
        for row, before in zip(encoded[name], setting.splits[name], strict=True):
            states = row.pop(STATES)
            assert states.dtype == precision and row.keys() == before.keys() and row["id"] == before["id"]
            np.testing.assert_allclose(states, setting.expected(before["input_ids"]), atol=tolerance, rtol=tolerance)
            lengths.add(len(states))
    assert 0 in lengths and len(lengths) > 3


def test_batches_have_states_in_place_of_tokens(setting):
    rows = [setting.encoded()["train"][i] for i in range(8)]
    collator = MultimodalCollator(setting.processor)
    batch = collator(rows)
    tokens = collator([{k: v for k, v in row.items() if k != STATES} for row in rows])
    assert "input_ids" not in batch and torch.equal(batch["attention_mask"], tokens["attention_mask"])
    assert batch["text_values"].shape == (*tokens["input_ids"].shape, 16)
    assert (batch["text_values"] == 0)[batch["attention_mask"] == 0].all()
    other = [name for name in batch if name not in ("text_values", "id")]
    assert sorted(name for name in tokens if name not in ("input_ids", "id")) == sorted(other)
    assert all(torch.equal(batch[name], tokens[name]) for name in other)
    silent = [row for row in setting.encoded()["train"] if len(row[STATES]) == 0]
    assert "text_values" not in collator(silent[:1]) or silent[0]["audio_values"].size == 0
    nothing = {**silent[0], "audio_values": np.zeros((0, 8)), "vision_values": np.zeros((0, 6))}
    batch = collator([nothing])
    batch.pop("id"), batch.pop("references")
    assert torch.isfinite(setting.model(**batch).logits).all()


def test_rows_go_to_worker_processes(setting):
    rows = setting.encoded()["train"]
    again = pickle.loads(pickle.dumps(rows))
    for index in (0, 47):
        np.testing.assert_array_equal(again[index][STATES], rows[index][STATES])


@pytest.mark.slow
def test_streamed_rows(tmp_path):
    folder = write_prepared(make_rows(), tmp_path)
    plain = Setting(tmp_path / "run", load_dataset(folder))
    streamed = Setting(tmp_path / "run", streamed_splits(PreparedFolder(folder)))
    expected = {row["id"]: row[STATES] for row in plain.encoded()["train"]}
    found = {row["id"]: row[STATES] for row in streamed.encoded()["train"].shuffled(1, 8)}
    assert found.keys() == expected.keys()
    for name, states in found.items():
        np.testing.assert_array_equal(states, expected[name])


def encode_in_a_process(folder):
    """The texts that went through the encoder in this process, and the states that it has."""
    datasets.config.HF_DATASETS_CACHE = folder / "shared"
    found, forward = [], BertModel.forward
    BertModel.forward = lambda self, input_ids, **k: found.append(len(input_ids)) or forward(self, input_ids, **k)
    encoded = Setting(folder / "run").encoded()
    return sum(found), torch.cat([torch.from_numpy(row[STATES].copy()) for row in encoded["train"]])


@pytest.mark.slow
def test_one_process_computes_and_the_others_read(tmp_path):
    (first, states), (second, others) = in_processes(encode_in_a_process, 2, tmp_path, tmp_path)
    assert first > 0 and second == 0 and torch.equal(states, others)


def test_states_are_computed_once(setting, calls, caplog, cache):
    caplog.set_level("INFO", "training.encoded_text")
    setting.encoded()
    texts = sum(len(ids) > 0 for name in ("train", "valid") for ids in setting.splits[name]["input_ids"][:])
    assert sum(calls) == texts and len(list(cache.iterdir())) == 4
    assert "outputs for 48 texts" in caplog.text and str(cache) in caplog.text
    calls.clear()
    setting.model.audio_encoder.requires_grad_(False)
    with torch.no_grad():
        for parameter in setting.model.heads.parameters():
            parameter.zero_()
    setting.encoded()
    assert not calls  # whatever the rest of the model is
    changed = copy.deepcopy(setting)
    with torch.no_grad():
        changed.model.text_encoder.encoder.layer[0].output.dense.bias[3] += 1e-3
    changed.encoded()
    assert sum(calls) == texts
    for arguments, args in (("float16", {}), ("float32", {"bf16": True})):
        calls.clear()
        setting.args = TrainingArguments(setting.args.output_dir, use_cpu=True, **args)
        setting.encoded(arguments)
        assert sum(calls) == texts
    calls.clear()
    table = setting.splits["train"].table
    tokens = [list(ids) for ids in table["input_ids"][:]]
    longest = max(range(48), key=lambda i: len(tokens[i]))
    tokens[longest][1], tokens[longest][2] = tokens[longest][2], tokens[longest][1]
    table = table.remove_columns("input_ids").add_column("input_ids", tokens, feature=table.features["input_ids"])
    setting.splits["train"] = type(setting.splits["train"])(table)
    setting.args = TrainingArguments(setting.args.output_dir, use_cpu=True)
    setting.encoded()
    assert sum(calls) == sum(len(ids) > 0 for ids in tokens)


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def other_encoder(file):
    about = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**about, "text_encoder": "0" * 64}))


SPOILS = {
    "a byte": (flip_a_byte, "SHA-256 differs"),
    "the end": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "SHA-256 differs"),
    "all of it": (lambda file: file.unlink(), "cannot be read"),
    "another encoder": (other_encoder, "is of another encoder"),
    "no JSON": (lambda file: file.with_suffix(".json").write_text("{"), "cannot be read"),
    "another JSON": (lambda file: file.with_suffix(".json").write_text("[]"), "is of another encoder"),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_spoilt_file_is_computed_again(setting, cache, caplog, what):
    spoil, message = SPOILS[what]
    expected = [row[STATES].copy() for row in setting.encoded()["train"]]
    for file in sorted(cache.glob("*.arrow")):
        spoil(file)
    for messages in (2, 0):
        caplog.clear()
        for row, states in zip(setting.encoded()["train"], expected, strict=True):
            np.testing.assert_array_equal(row[STATES], states)
        assert caplog.text.count(message) == messages


def test_nothing_is_left_of_an_interrupted_computation(setting, cache, monkeypatch):
    class Interrupted(BaseException):
        pass

    def stop(*args):
        raise Interrupted

    monkeypatch.setattr(encoded_text, "WINDOW_TOKENS", 60)
    whole, written = encoded_text.TextStates._encoded, []

    def second_window_stops(*args):
        written.append(1)
        return whole(*args) if len(written) < 2 else stop()

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(encoded_text.TextStates, "_encoded", second_window_stops)
        setting.encoded()
    assert not list(cache.iterdir()) and setting.model.training
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(encoded_text, "file_sha256", stop)
        setting.encoded()
    assert not list(cache.iterdir())
    assert len(setting.encoded()["train"]) == 48


def test_a_cache_that_cannot_be_written(setting, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.raises(OSError, match="cannot be kept in .*file.*HF_DATASETS_CACHE.*--encoded_text none"):
        setting.encoded()


def test_a_full_disk_says_how_much_is_needed(setting, cache, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encoded_text.pa, "OSFile", full)
    with pytest.raises(OSError, match=r"free some space\. 0 MB are needed\. Set the environment variable HF_DATASETS_"):
        setting.encoded()
    assert not list(cache.iterdir())


def test_states_beyond_float16(setting):
    with torch.no_grad():
        setting.model.text_encoder.encoder.layer[-1].output.LayerNorm.weight.mul_(1e6)
    with pytest.raises(ValueError, match="not all are in float16; set --encoded_text float32"):
        setting.encoded("float16")
    setting.encoded("float32")


def test_encoders_that_are_trained_or_read_the_others(setting, caplog, tmp_path):
    setting.model.text_encoder.encoder.layer[-1].output.LayerNorm.bias.requires_grad = True
    assert setting.encoded() is setting.splits
    gated = Setting(
        tmp_path / "gated",
        model_type="mag_bert",
        label_generation="none",
        model={"text_config": TINY_RECIPE["model"]["text_config"]},
    )
    caplog.set_level("INFO", "training.encoded_text")
    assert isinstance(gated.model, MagBertModel) and gated.encoded() is gated.splits
    assert "that of MAG-BERT reads the other modalities" in caplog.text


def test_weights_that_deepspeed_has_spread(setting, caplog):
    caplog.set_level("INFO", "training.encoded_text")
    next(setting.model.text_encoder.parameters()).ds_id = 0  # as its ZeRO of the third stage marks them
    assert setting.encoded() is setting.splits and "DeepSpeed has spread" in caplog.text


def test_groups_hold_each_position_once():
    random = np.random.default_rng(0)
    for budget in (1, 7, 40, 10_000):
        lengths = random.integers(0, 12, 60)
        found = list(groups(lengths, budget))
        assert np.concatenate(found).tolist() == list(range(60))
        for group in found:
            assert len(group) == 1 or len(group) * lengths[group].max() <= budget
        for group, after in zip(found[:-1], found[1:], strict=True):  # no group could have taken one more
            assert (len(group) + 1) * max(lengths[group].max(), lengths[after[0]]) > budget
    assert not list(groups([], 5))


def results(run):
    return {name: value for name, value in run.items() if name not in COSTS}


def write(path, recipe):
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


def test_training_gives_what_it_gives_without(tmp_path, calls):
    """And without the encoder in any epoch; the checkpoint has it, and reads text."""
    recipe = write(tmp_path / "recipe.yaml", FROZEN)
    expected = train.main([recipe, "--output_dir", str(tmp_path / "plain"), "--encoded_text", "none"])
    ran = sum(calls)
    calls.clear()
    found = train.main([recipe, "--output_dir", str(tmp_path / "kept")])
    assert sum(calls) <= 48 + 16 + 32 < ran / 2  # the two splits once, and the predictions in the end
    assert results(found) == pytest.approx(results(expected), abs=1e-4)
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("plain", "kept")]
    assert {n for n in files[0] if "checkpoint" not in n} == {n for n in files[1] if "checkpoint" not in n}
    plain, kept = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "kept"))
    torch.testing.assert_close(kept, plain, atol=1e-5, rtol=1e-4)
    assert any(name.startswith("text_encoder.") for name in kept)
    configs = [(tmp_path / name / "config.json").read_text() for name in ("plain", "kept")]
    assert configs[0] == configs[1]
    logits = []
    for name in ("plain", "kept"):
        processor = AutoProcessor.from_pretrained(tmp_path / name)
        model = AutoModel.from_pretrained(tmp_path / name).eval()
        with torch.no_grad():
            logits.append(model(**processor(text="it was really good")).logits)
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, monkeypatch, cache):
    recipe = write(tmp_path / "recipe.yaml", FROZEN)
    expected = train.main([recipe, "--output_dir", str(tmp_path / "whole")])
    arguments = [recipe, "--output_dir", str(tmp_path / "killed")]
    killed_run(monkeypatch, arguments, step=9)
    shutil.rmtree(cache)  # goes on without it, too, and where the encoder came from there is another by now
    build = train.build_model

    def with_another_encoder(*args):
        model = build(*args)
        with torch.no_grad():
            for weight in model.text_encoder.parameters():
                weight.add_(0.1)
        return model

    monkeypatch.setattr(train, "build_model", with_another_encoder)
    found = train.main([*arguments, "--resume_from_checkpoint", "true"])
    assert results(found) == results(expected)
    weights, others = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.slow
def test_a_stage_has_the_states_of_the_encoder_that_it_starts_from(tmp_path, cache):
    """Trained in the first stage, frozen in the second: its states are those of the trained one."""
    recipe = {**FROZEN, "frozen": [], "label_generation": "none", "stages": [{"name": "all"}]}
    recipe["model"] = {**FROZEN["model"], "tasks": ["M"]}
    recipe["stages"] += [{"name": "rest", "frozen": ["text_encoder"]}]
    path = write(tmp_path / "recipe.yaml", recipe)
    expected = train.main([path, "--output_dir", str(tmp_path / "plain"), "--encoded_text", "none"])
    assert not cache.exists()
    found = train.main([path, "--output_dir", str(tmp_path / "kept")])
    assert results(found) == pytest.approx(results(expected), abs=1e-4)
    assert len(list(cache.glob("*.arrow"))) == 2
    table = Dataset.from_file(str(max(cache.glob("*.arrow"), key=lambda file: file.stat().st_size)))
    assert len(table) == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoded_text": "bfloat16"}, "`encoded_text` must be one of float32, float16, none; got 'bfloat16'"),
        ({"frozen": "text_encoder"}, "`frozen` must be a list of parts of the model; got 'text_encoder'"),
        ({"stages": [{"name": "one"}], "label_generation": "none"}, "`frozen` is for a recipe with one training"),
    ],
)
def test_recipes_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict({**FROZEN, **changes})


@pytest.mark.parametrize(("frozen", "message"), [(["text"], "`frozen` names 'text', which begins no parameter")])
def test_a_frozen_part_that_is_not_there(tmp_path, frozen, message):
    recipe = write(tmp_path / "recipe.yaml", {**FROZEN, "frozen": frozen})
    with pytest.raises(ValueError, match=message):
        train.main([recipe, "--output_dir", str(tmp_path / "run")])

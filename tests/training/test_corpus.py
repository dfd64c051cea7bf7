"""Which samples of a corpus stay for a target, and that they stay as they are."""

import numpy as np
import pytest

from configuration import TARGETS
from datasets_scripts import SPLITS, SyntheticCorpus
from processing import MultimodalProcessor
from training.corpus import Corpus, keep_labelled, load_corpus, prepare_split
from training.factory import word_tokenizer
from training.targets import Target


@pytest.fixture
def corpus():
    """A quarter of its samples have no emotion; some lack a modality."""
    made = SyntheticCorpus(train=40, valid=12, test=12, seed=4, missing=0.2, emotions=True)
    return Corpus(made.build(), "made up", None, ["First."])


def rows_of(corpus, split):
    """Every row as plain values, each sequence as bytes and shape."""
    return [
        {
            name: (value.shape, value.tobytes()) if isinstance(value, np.ndarray) and value.ndim else value
            for name, value in row.items()
        }
        for row in corpus.splits[split]
    ]


def test_samples_without_an_emotion_are_left_out_and_noted(corpus):
    before = {split: rows_of(corpus, split) for split in SPLITS}
    there = {split: [max(row) > 0 for row in corpus.splits[split]["emotions"][:].tolist()] for split in SPLITS}
    keep_labelled(corpus, Target("emotion"))
    notes = []
    for split in SPLITS:
        assert not all(there[split])
        expected = [row for row, kept in zip(before[split], there[split], strict=True) if kept]
        assert rows_of(corpus, split) == expected
        lacking = there[split].count(False)
        notes.append(f"{lacking} of {len(there[split])} samples of the {split} split have no emotion")
    assert corpus.notes[0] == "First." and len(corpus.notes) == 4
    for note, start in zip(corpus.notes[1:], notes, strict=True):
        assert note.startswith(start) and note.endswith("left out.")


def test_columns_and_slices_of_what_is_kept(corpus):
    """As reads of single rows, so columns, slices and lists of rows, of sequences that differ in steps."""
    whole = corpus.splits["train"]
    kept = [i for i, row in enumerate(whole["emotions"][:]) if row.any()]
    keep_labelled(corpus, Target("emotion"))
    rows = corpus.splits["train"]
    assert rows.format["type"] == "numpy" and rows.features == whole.features
    assert rows["id"][:].tolist() == [whole[i]["id"] for i in kept]
    np.testing.assert_array_equal(rows["emotions"][:], whole["emotions"][:][kept])
    assert rows["emotions"][:].shape == (len(kept), 6) and rows["label"][:].dtype == np.float32
    for name in ("audio_values", "vision_values"):
        for found, i in zip(rows[3:7][name], kept[3:7], strict=True):
            np.testing.assert_array_equal(found, whole[i][name])
        assert rows[[5, 2]][name][1].shape == whole[kept[2]][name].shape


def test_kept_samples_are_prepared_as_others_are(corpus):
    processor = MultimodalProcessor(None, audio_feature_size=8, vision_feature_size=6)
    keep_labelled(corpus, Target("emotion"))
    rows = prepare_split(corpus.splits["test"], processor, None)
    for row in rows:
        assert row["length"] == len(row["audio_values"]) + len(row["vision_values"])


@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"emotion"}))
def test_every_other_target_keeps_all(corpus, name):
    before = dict(corpus.splits)
    keep_labelled(corpus, Target(name))
    assert all(corpus.splits[split] is before[split] for split in SPLITS) and corpus.notes == ["First."]


@pytest.mark.parametrize("name", ["emotion", "emotions"])
def test_a_corpus_without_emotions(name):
    corpus = load_corpus(synthetic={"train": 4, "valid": 2, "test": 2})
    with pytest.raises(ValueError, match=f"`model.target: {name}` needs the column `emotions`.*synthetic corpus lacks"):
        keep_labelled(corpus, Target(name))


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_any_emotion(corpus, split):
    def calm(row):
        return {"emotions": np.zeros(6, np.float32)}

    corpus.splits[split] = corpus.splits[split].map(calm).with_format("numpy")
    with pytest.raises(ValueError, match=f"No sample of the {split} split has a label for `model.target: emotion`"):
        keep_labelled(corpus, Target("emotion"))


def test_emotions_of_a_file(mmsa_content, mmsa_file):
    """Read, kept and noted as those of the synthetic corpus are."""
    random = np.random.default_rng(0)
    for split in mmsa_content.values():
        split["emotions"] = (
            random.integers(0, 3, (len(split["id"]), 6)) * (np.arange(len(split["id"])) % 3 > 0)[:, None]
        )
    corpus = load_corpus(mmsa_file(mmsa_content))
    expected = {name: split["emotions"][split["emotions"].any(axis=1)] for name, split in mmsa_content.items()}
    keep_labelled(corpus, Target("emotion"))
    for name, rows in corpus.splits.items():
        np.testing.assert_array_equal(rows["emotions"][:], expected[name])
    assert sum("no emotion" in note for note in corpus.notes) == 3


def test_tokens_do_not_depend_on_how_many_rows_are_tokenized_together(monkeypatch):
    corpus = SyntheticCorpus(train=23, valid=1, test=1).build()["train"]
    processor = MultimodalProcessor(word_tokenizer(corpus["text"][:], {}), text_input="tokens")
    monkeypatch.setattr("training.corpus._TOKENIZED_ROWS", 5)
    rows = prepare_split(corpus, processor, "raw_text")
    for row in range(23):
        assert rows[row]["input_ids"].tolist() == processor.tokenize([corpus[row]["text"]])[0]
        assert rows[row]["length"] == len(rows[row]["input_ids"])
    assert prepare_split(corpus, processor, None)["length"][:].tolist() == [0] * 23

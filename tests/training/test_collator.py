"""From rows to a padded batch."""

import numpy as np
import pytest
import torch

from processing import MultimodalProcessor
from training.collator import MultimodalCollator
from training.factory import word_tokenizer
from training.targets import Target

TEXTS = ["the plot was great", "um the pace felt slightly weak and the cast is good", "fine"]


def make_processor(**fields):
    tokenizer = word_tokenizer(TEXTS, {})
    return MultimodalProcessor(
        tokenizer, **{"text_input": "tokens", "audio_feature_size": 3, "vision_feature_size": 2, **fields}
    )


def make_rows(processor, steps=((4, 2), (1, 7), (6, 3)), seed=0):
    random = np.random.default_rng(seed)
    return [
        {
            "id": f"clip$_${i}",
            "text": text,
            "input_ids": ids,
            "audio_values": random.normal(size=(audio, 3)).astype(np.float32),
            "vision_values": random.normal(size=(vision, 2)).astype(np.float32),
            "text_values": random.normal(size=(i + 1, 5)).astype(np.float32),
            "label": np.float32(random.uniform(-3, 3)),
            "text_label": np.float32(i),
            "audio_label": np.float32(i + 0.5),
            "vision_label": np.float32(-i),
            "emotions": np.float32([0, i, 0, 0, 2 * i, 1]) * (i > 0),
            "length": 5,
        }
        for i, (text, ids, (audio, vision)) in enumerate(zip(TEXTS, processor.tokenize(TEXTS), steps, strict=True))
    ]


def test_tokens_audio_and_vision():
    processor = make_processor()
    rows = make_rows(processor)
    batch = MultimodalCollator(processor)(rows)
    lengths = [len(row["input_ids"]) for row in rows]
    assert len(set(lengths)) == 3
    expected = {
        "input_ids": (3, max(lengths)),
        "attention_mask": (3, max(lengths)),
        "audio_values": (3, 6, 3),
        "audio_attention_mask": (3, 6),
        "vision_values": (3, 7, 2),
        "vision_attention_mask": (3, 7),
        "labels": (3,),
        "references": (3,),
    }
    assert {name: tuple(value.shape) for name, value in batch.items() if name != "id"} == expected
    assert batch["id"] == ["clip$_$0", "clip$_$1", "clip$_$2"]
    assert batch["labels"].dtype == torch.float32 and batch["labels"].tolist() == [row["label"] for row in rows]
    assert torch.equal(batch["references"], batch["labels"])
    for i, row in enumerate(rows):
        assert batch["attention_mask"][i].tolist() == [1] * lengths[i] + [0] * (max(lengths) - lengths[i])
        assert batch["input_ids"][i, : lengths[i]].tolist() == row["input_ids"]
        assert (batch["input_ids"][i, lengths[i] :] == processor.tokenizer.pad_token_id).all()
        for modality in ("audio", "vision"):
            values = row[f"{modality}_values"]
            mask = batch[f"{modality}_attention_mask"][i]
            assert mask.sum() == len(values) and mask[: len(values)].all()
            np.testing.assert_array_equal(batch[f"{modality}_values"][i, : len(values)].numpy(), values)
            assert (batch[f"{modality}_values"][i, len(values) :] == 0).all()


def test_padding_is_that_of_the_batch():
    processor = make_processor()
    rows = make_rows(processor)
    batch = MultimodalCollator(processor)([rows[0]])
    assert batch["audio_values"].shape == (1, 4, 3) and batch["audio_attention_mask"].all()
    assert batch["input_ids"].shape == (1, len(rows[0]["input_ids"])) and batch["attention_mask"].all()


def test_text_features():
    processor = MultimodalProcessor(None, text_input="values", text_feature_size=5, audio_feature_size=3)
    rows = make_rows(make_processor())
    batch = MultimodalCollator(processor)(rows)
    assert set(batch) == {
        *("text_values", "attention_mask", "audio_values", "audio_attention_mask", "labels", "references", "id"),
    }
    assert batch["text_values"].shape == (3, 3, 5)
    assert batch["attention_mask"].sum(dim=1).tolist() == [1, 2, 3]


def test_missing_modalities_are_rows_of_zeros_in_the_mask():
    processor = make_processor()
    rows = make_rows(processor, steps=((4, 0), (0, 7), (6, 3)))
    rows[2]["input_ids"] = []
    batch = MultimodalCollator(processor)(rows)
    assert batch["attention_mask"].any(dim=1).tolist() == [True, True, False]
    assert batch["audio_attention_mask"].any(dim=1).tolist() == [True, False, True]
    assert batch["vision_attention_mask"].any(dim=1).tolist() == [False, True, True]


def test_modality_that_the_whole_batch_lacks_is_left_out():
    processor = make_processor()
    rows = make_rows(processor, steps=((4, 0), (1, 0), (6, 0)))
    batch = MultimodalCollator(processor)(rows)
    assert "vision_values" not in batch and "vision_attention_mask" not in batch
    assert batch["audio_values"].shape == (3, 6, 3)
    for row in rows:
        row["input_ids"] = []
    batch = MultimodalCollator(processor)(rows)
    assert "input_ids" not in batch and "attention_mask" not in batch


@pytest.mark.parametrize("unimodal_labels", [True, False])
def test_unimodal_labels(unimodal_labels):
    processor = make_processor()
    rows = make_rows(processor)
    for row in rows:
        del row["vision_label"]
    batch = MultimodalCollator(processor, unimodal_labels=unimodal_labels)(rows)
    found = {name: batch[name].tolist() for name in batch if name.endswith("_labels")}
    assert found == ({"text_labels": [0, 1, 2], "audio_labels": [0.5, 1.5, 2.5]} if unimodal_labels else {})


def test_rows_without_labels():
    processor = make_processor()
    rows = make_rows(processor)
    for row in rows:
        del row["label"]
    assert not {"labels", "references"} & set(MultimodalCollator(processor)(rows))


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (Target("sentiment"), [-0.5, 0.0, 2.5]),
        (Target("sentiment2"), [0, 1, 1]),
        (Target("sentiment2", "sims"), [0, 0, 1]),
        (Target("sentiment7"), [3, 3, 5]),
        (Target("emotions"), [[0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1], [0, 1, 0, 0, 1, 1]]),
        (Target("emotion"), [-100, 4, 4]),
    ],
    ids=lambda value: f"{value.name}-{value.convention}" if isinstance(value, Target) else "",
)
def test_labels_and_references_of_every_target(target, labels):
    """Labels are what is trained on; references are the column as it is, in float32."""
    processor = make_processor()
    rows = make_rows(processor)
    for row, label in zip(rows, (-0.5, 0.0, 2.5), strict=True):
        row["label"] = np.float32(label)
    batch = MultimodalCollator(processor, target)(rows)
    assert batch["labels"].tolist() == labels
    whole = target.name in ("sentiment2", "sentiment7", "emotion")
    assert batch["labels"].dtype == (torch.int64 if whole else torch.float32)
    assert batch["references"].dtype == torch.float32
    assert batch["references"].tolist() == [np.asarray(row[target.column]).tolist() for row in rows]
    for row in rows:
        del row[target.column]
    assert not {"labels", "references"} & set(MultimodalCollator(processor, target)(rows))


@pytest.mark.parametrize("text_input", ["tokens", "values", None])
def test_a_batch_that_lacks_everything(text_input):
    """One masked step of everything that the model reads, so that it has an answer."""
    rows = make_rows(make_processor(), steps=((0, 0),) * 3)
    if text_input == "tokens":
        processor = make_processor(vision_feature_size=None)
    else:
        size = 5 if text_input else None
        processor = MultimodalProcessor(None, text_input=text_input, text_feature_size=size, audio_feature_size=3)
    for row in rows:
        row |= {"input_ids": [], "text_values": np.zeros((0, 5), np.float32)}
    batch = MultimodalCollator(processor)(rows)
    shapes = {"audio_values": (3, 1, 3), "audio_attention_mask": (3, 1), "labels": (3,), "references": (3,)}
    if text_input == "tokens":
        shapes |= {"input_ids": (3, 1), "attention_mask": (3, 1)}
    elif text_input == "values":
        shapes |= {"text_values": (3, 1, 5), "attention_mask": (3, 1)}
    assert {name: tuple(value.shape) for name, value in batch.items() if name != "id"} == shapes
    for name, value in batch.items():
        if name not in ("id", "labels", "references"):
            assert not value.any() and value.is_floating_point() == name.endswith("_values")
    assert batch["id"] == [row["id"] for row in rows] and list(batch)[-1] == "id"


def test_a_batch_that_lacks_everything_and_all_its_columns():
    """Of data without audio, of which this batch has no text either."""
    processor = make_processor(vision_feature_size=None)
    rows = make_rows(processor)
    for row in rows:
        row["input_ids"] = []
        del row["audio_values"]
    batch = MultimodalCollator(processor)(rows)
    assert not batch["attention_mask"].any() and batch["audio_values"].shape == (3, 1, 3)


def test_id_comes_last():
    """Accelerate reads the batch size off the first entry that it finds."""
    processor = make_processor()
    batch = MultimodalCollator(processor)(make_rows(processor))
    assert list(batch)[-1] == "id" and isinstance(next(iter(batch.values())), torch.Tensor)


def test_normalisation_is_the_processors():
    statistics = {"audio": {"mean": [1.0, 2.0, 3.0], "std": [2.0, 2.0, 4.0]}}
    processor = make_processor(normalization=statistics)
    rows = make_rows(processor)
    batch = MultimodalCollator(processor)(rows)
    expected = (rows[2]["audio_values"] - np.float32([1, 2, 3])) / np.float32([2, 2, 4])
    np.testing.assert_allclose(batch["audio_values"][2].numpy(), expected, rtol=1e-6)
    assert (batch["audio_values"][1, 1:] == 0).all()  # padding stays zero

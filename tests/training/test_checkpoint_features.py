"""Which features a checkpoint refuses: those of another extractor, by its settings."""

from types import SimpleNamespace

import pytest

from training.checkpoint import check_features, text_column
from training.corpus import Corpus

SETTINGS = {"name": "egemaps_v02", "rate": 20.0, "feature_size": 25, "versions": {"opensmile": "2.6.0"}}


def corpus(**extractors):
    return Corpus({}, "data", None, [], extractors=extractors)


def processor(audio=None, vision=None):
    return SimpleNamespace(audio_extractor=audio, vision_extractor=vision, text_input=None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "audio_encoder"}, "they are of the kind 'audio_encoder', not 'egemaps_v02'"),
        ({"rate": 10.0}, "they have `rate` 10.0, not 20.0"),
        ({"model": "org/other"}, '"org/other", not null'),
    ],
)
def test_features_of_another_kind(changes, words):
    data = corpus(audio={**SETTINGS, **changes})
    for refuses in (check_features, lambda data, processor: text_column(data, processor, None)):
        with pytest.raises(ValueError) as error:
            refuses(data, processor(audio=SETTINGS))
        assert "The audio features of data are not those that the checkpoint was trained on" in str(error.value)
        assert words in str(error.value)
        assert """--audio '{"name": "egemaps_v02", "rate": 20.0, "feature_size": 25}'""" in str(error.value)


def test_features_that_may_be_the_same():
    check_features(corpus(audio={**SETTINGS, "versions": {"opensmile": "9"}}), processor(audio=SETTINGS))
    check_features(corpus(), processor(audio=SETTINGS))
    check_features(corpus(audio=SETTINGS), processor())
    check_features(corpus(vision=SETTINGS), processor(audio=SETTINGS))
    check_features(corpus(audio=SETTINGS), SimpleNamespace())  # a processor from before there were extractors

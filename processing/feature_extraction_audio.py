"""Extractors of features from sound, by name."""

from __future__ import annotations

from processing.feature_extraction import FeatureExtractor
from processing.feature_extraction_audio_egemaps import EgemapsExtractor
from processing.feature_extraction_audio_encoder import AudioEncoderExtractor

AUDIO_EXTRACTORS: dict[str, type[FeatureExtractor]] = {
    extractor.name: extractor for extractor in (EgemapsExtractor, AudioEncoderExtractor)
}

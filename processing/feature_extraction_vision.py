"""The extractors of features from faces, by name."""

from __future__ import annotations

from processing.feature_extraction import FeatureExtractor
from processing.feature_extraction_vision_appearance import FaceAppearanceExtractor
from processing.feature_extraction_vision_encoder import ImageEncoderExtractor
from processing.feature_extraction_vision_mediapipe import MediaPipeFaceExtractor

VISION_EXTRACTORS: dict[str, type[FeatureExtractor]] = {
    extractor.name: extractor for extractor in (FaceAppearanceExtractor, MediaPipeFaceExtractor, ImageEncoderExtractor)
}

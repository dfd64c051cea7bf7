"""Processors: from a sample's text and feature sequences to a model's inputs.

Importing this package registers the processor with `transformers.AutoProcessor`.
"""

from transformers import AutoProcessor

from configuration import CONFIG_CLASSES
from processing.processing_multimodal import MultimodalProcessor

for config_class in CONFIG_CLASSES:
    AutoProcessor.register(config_class, MultimodalProcessor, exist_ok=True)

__all__ = ["MultimodalProcessor"]

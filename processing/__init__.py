"""Processors and the pipeline: from a sample's text and feature sequences to a model's inputs, and to predictions.

Importing this package registers the processor with `transformers.AutoProcessor` and the pipeline's task with
`transformers.pipeline`.
"""

from transformers import AutoModelForSequenceClassification, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from configuration import CONFIG_CLASSES
from processing.pipeline_multimodal_sentiment import TASK, MultimodalSentimentPipeline
from processing.processing_multimodal import MultimodalProcessor

for config_class in CONFIG_CLASSES:
    AutoProcessor.register(config_class, MultimodalProcessor, exist_ok=True)

if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=MultimodalSentimentPipeline, pt_model=AutoModelForSequenceClassification
    )

__all__ = ["MultimodalProcessor", "MultimodalSentimentPipeline"]

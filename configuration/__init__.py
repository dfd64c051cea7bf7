"""Configurations: one `PretrainedConfig` per architecture, on top of `MultimodalConfig`.

Importing this package registers every configuration with `transformers.AutoConfig`.
"""

from transformers import AutoConfig

from configuration.configuration_delta_attention import DeltaAttentionConfig
from configuration.configuration_mmlatch import MMLatchConfig
from configuration.configuration_multimodal import EMOTIONS, MODALITIES, TARGETS, MultimodalConfig
from configuration.configuration_self_mm import SelfMMConfig
from configuration.configuration_sugrm import SugrmConfig
from configuration.configuration_ucrn import UcrnConfig

CONFIG_CLASSES = (SelfMMConfig, SugrmConfig, MMLatchConfig, UcrnConfig, DeltaAttentionConfig)

for config_class in CONFIG_CLASSES:
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)

__all__ = [
    "CONFIG_CLASSES",
    "EMOTIONS",
    "MODALITIES",
    "TARGETS",
    "DeltaAttentionConfig",
    "MMLatchConfig",
    "MultimodalConfig",
    "SelfMMConfig",
    "SugrmConfig",
    "UcrnConfig",
]

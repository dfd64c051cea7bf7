"""Configurations: one `PretrainedConfig` per architecture, on top of `MultimodalConfig`.

Importing this package registers every configuration with `transformers.AutoConfig`.
"""

from transformers import AutoConfig

from configuration.configuration_mmlatch import MMLatchConfig
from configuration.configuration_multimodal import MODALITIES, MultimodalConfig
from configuration.configuration_self_mm import SelfMMConfig
from configuration.configuration_sugrm import SugrmConfig

CONFIG_CLASSES = (SelfMMConfig, SugrmConfig, MMLatchConfig)

for config_class in CONFIG_CLASSES:
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)

__all__ = ["CONFIG_CLASSES", "MODALITIES", "MMLatchConfig", "MultimodalConfig", "SelfMMConfig", "SugrmConfig"]

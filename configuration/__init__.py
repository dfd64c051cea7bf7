"""Configurations: one `PretrainedConfig` per architecture, on top of `MultimodalConfig`.

Every file `configuration_<model_type>.py` here is found and imported; its configuration is registered with
`transformers.AutoConfig` and can be imported from this package.
"""

import importlib
import pkgutil
from typing import Any

from transformers import AutoConfig

from configuration.configuration_multimodal import EMOTIONS, MODALITIES, TARGETS, MultimodalConfig


def _architectures() -> tuple[type[MultimodalConfig], ...]:
    """The configurations that say which architecture they are of: those with a `model_type` of their own."""
    found = []
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        if module.startswith("configuration_"):
            defined = vars(importlib.import_module(f"{__name__}.{module}")).values()
            found += [
                value
                for value in defined
                if isinstance(value, type)
                and value.__module__ == f"{__name__}.{module}"
                and issubclass(value, MultimodalConfig)
                and value is not MultimodalConfig
                and "model_type" in vars(value)
            ]
    return tuple(found)


CONFIG_CLASSES = _architectures()

for config_class in CONFIG_CLASSES:
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)

globals().update({config_class.__name__: config_class for config_class in CONFIG_CLASSES})


def __getattr__(name: str) -> Any:  # what a type checker sees of the names above
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["CONFIG_CLASSES", "EMOTIONS", "MODALITIES", "TARGETS", "MultimodalConfig"]

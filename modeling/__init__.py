"""Models: one `PreTrainedModel` per architecture, on top of `MultimodalPreTrainedModel`.

The file `modeling_<model_type>.py` of every configuration is found and imported; its model is registered with
`transformers.AutoModel` and `AutoModelForSequenceClassification`, and can be imported from this package.
"""

import importlib
from typing import Any

from transformers import AutoModel, AutoModelForSequenceClassification

from configuration import CONFIG_CLASSES
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel


def _model_of(config_class: type) -> type[MultimodalPreTrainedModel]:
    """The model of a configuration, in the file beside it."""
    name = config_class.__module__.rpartition(".")[2].replace("configuration_", "modeling_", 1)
    defined = vars(importlib.import_module(f"{__name__}.{name}")).values()
    return next(
        value
        for value in defined
        if isinstance(value, type)
        and issubclass(value, MultimodalPreTrainedModel)
        and value.config_class is config_class
    )


MODEL_CLASSES = tuple(_model_of(config_class) for config_class in CONFIG_CLASSES)

for model_class in MODEL_CLASSES:
    AutoModel.register(model_class.config_class, model_class, exist_ok=True)
    AutoModelForSequenceClassification.register(model_class.config_class, model_class, exist_ok=True)

globals().update({model_class.__name__: model_class for model_class in MODEL_CLASSES})


def __getattr__(name: str) -> Any:  # what a type checker sees of the names above
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MODEL_CLASSES", "MultimodalOutput", "MultimodalPreTrainedModel"]

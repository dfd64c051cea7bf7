"""Models: one `PreTrainedModel` per architecture, on top of `MultimodalPreTrainedModel`.

Importing this package registers every model with `transformers.AutoModel` and `AutoModelForSequenceClassification`, and
every configuration with `AutoConfig`.
"""

from transformers import AutoModel, AutoModelForSequenceClassification

from modeling.modeling_mmlatch import MMLatchModel
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.modeling_self_mm import SelfMMModel
from modeling.modeling_sugrm import SugrmModel

MODEL_CLASSES = (SelfMMModel, SugrmModel, MMLatchModel)

for model_class in MODEL_CLASSES:
    AutoModel.register(model_class.config_class, model_class, exist_ok=True)
    AutoModelForSequenceClassification.register(model_class.config_class, model_class, exist_ok=True)

__all__ = [
    "MODEL_CLASSES",
    "MMLatchModel",
    "MultimodalOutput",
    "MultimodalPreTrainedModel",
    "SelfMMModel",
    "SugrmModel",
]

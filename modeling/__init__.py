"""Models: one `PreTrainedModel` per architecture, on top of `MultimodalPreTrainedModel`.

Importing this package registers every model with `transformers.AutoModel` and `AutoModelForSequenceClassification`, and
every configuration with `AutoConfig`.
"""

from transformers import AutoModel, AutoModelForSequenceClassification

from modeling.modeling_delta_attention import DeltaAttentionModel
from modeling.modeling_mmlatch import MMLatchModel
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.modeling_self_mm import SelfMMModel
from modeling.modeling_sugrm import SugrmModel
from modeling.modeling_ucrn import UcrnModel

MODEL_CLASSES = (SelfMMModel, SugrmModel, MMLatchModel, UcrnModel, DeltaAttentionModel)

for model_class in MODEL_CLASSES:
    AutoModel.register(model_class.config_class, model_class, exist_ok=True)
    AutoModelForSequenceClassification.register(model_class.config_class, model_class, exist_ok=True)

__all__ = [
    "MODEL_CLASSES",
    "DeltaAttentionModel",
    "MMLatchModel",
    "MultimodalOutput",
    "MultimodalPreTrainedModel",
    "SelfMMModel",
    "SugrmModel",
    "UcrnModel",
]

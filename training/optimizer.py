"""Parameter groups and optimiser from a recipe's `optimizer` section."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

WRAPPERS = re.compile(r"^((_orig_mod|module|_fsdp_wrapped_module)\.)+")  # by torch.compile, DDP and FSDP
PARAMETER_GROUPS = ("text_encoder", "audio_encoder", "vision_encoder", "sequence_encoder", "rest")


def parameter_groups(
    model: nn.Module, settings: dict[str, Any], learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """
    Groups for a torch optimiser: the text encoder, the audio and the vision encoder, an encoder that reads the
    modalities together, and the rest, by the names that `MultimodalPreTrainedModel` fixes. The text encoder's biases
    and layer normalisations are not decayed.

    Args:
        model: The model.
        settings: By group, `learning_rate` and `weight_decay`.
        learning_rate, weight_decay: For what a group does not set.
    """
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = WRAPPERS.sub("", name).partition(".")[0]
        group = group if group in PARAMETER_GROUPS else "rest"
        decayed = group != "text_encoder" or not ("bias" in name.rpartition(".")[2] or "norm" in name.lower())
        members.setdefault((group, decayed), []).append(parameter)
    groups = []
    for (group, decayed), parameters in members.items():
        chosen = settings.get(group, {})
        groups.append(
            {
                "params": parameters,
                "lr": chosen.get("learning_rate", learning_rate),
                "weight_decay": chosen.get("weight_decay", weight_decay) if decayed else 0.0,
            }
        )
    return groups

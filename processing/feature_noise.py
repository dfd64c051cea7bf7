"""
Noise on a sample's features and words, to see what a prediction rests on.

The protocol is that of UCRN (Guo et al., EMNLP 2021), section 4.4: noise "that follows a Bernoulli distribution is
randomly added on the entire modality features" with a probability; the paper gives it no scale. Here x' = x + s b, with
b ~ Bernoulli(p) for every step and feature on its own, and s the feature's standard deviation. Text that comes as
tokens has no features to add to: each token that is not a special one is replaced with probability p by the tokenizer's
mask token or, where it has none, its unknown one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from configuration.configuration_multimodal import MODALITIES


class Noise:
    """
    Adds noise to rows, drawn from the seed, the row's position and the modality alone: every model meets the same one
    at any batch size, a modality's is the same alone and among others, and what a probability changes a higher one
    changes, too.

    Args:
        deviations: By modality, the standard deviation (features,) of each feature: how much is added.
        seed: Not negative.
        tokenizer: Of a model that reads text as tokens.
    """

    def __init__(self, deviations: dict[str, np.ndarray], seed: int = 0, tokenizer=None):
        self.deviations = deviations
        self.seed = seed
        self.tokens = None if tokenizer is None else noise_tokens(tokenizer)

    def __call__(
        self, position: int, row: dict[str, Any], modalities: Sequence[str], probability: float
    ) -> dict[str, Any]:
        """The row of a prepared split with noise on the modalities; it is not changed itself."""
        changed = dict(row)
        for modality in modalities:
            random = np.random.default_rng([self.seed, position, MODALITIES.index(modality)])
            if modality == "text" and self.tokens is not None:
                replacement, special = self.tokens
                tokens = np.array(row["input_ids"], np.int64)
                hit = random.random(len(tokens)) < probability
                changed["input_ids"] = np.where(hit & ~np.isin(tokens, special), replacement, tokens)
            else:
                values = np.asarray(row[f"{modality}_values"], np.float32)
                hit = random.random(values.shape) < probability
                changed[f"{modality}_values"] = (values + hit * self.deviations[modality]).astype(np.float32)
        return changed


def noise_tokens(tokenizer) -> tuple[int, list[int]]:
    """
    The token that noise puts in place of others, and the special ones that stay. The unknown token stands for a word,
    so it is replaced like one, unless it ends or pads texts as well.

    Raises:
        ValueError: for a tokenizer that has neither a mask token nor an unknown one.
    """
    replacement = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
    if replacement is None:
        raise ValueError(
            "Noise on tokens needs a mask token or an unknown token, and the tokenizer has neither; leave noise out."
        )
    other = [getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "sep", "cls", "pad", "mask")]
    unknown = {tokenizer.unk_token_id}.difference(other)
    return replacement, sorted(set(tokenizer.all_special_ids) - unknown)

"""Processor and model of a recipe on a corpus."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from datasets_scripts import MODALITIES
from modeling import MODEL_CLASSES
from processing import MultimodalProcessor
from processing.media_features import EXTRACTORS
from processing.processing_multimodal import fit_normalization
from training.corpus import Corpus
from training.recipe import Recipe, Stage

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def build_processor(recipe: Recipe, corpus: Corpus, text: str | None) -> MultimodalProcessor:
    """
    The processor that the checkpoint will have: the text encoder's tokenizer (or one of the training split's words),
    the corpus' feature sizes, what extracts such features, and statistics of the training split where the recipe
    normalises.
    """
    train = corpus.splits["train"]
    tokenizer = None
    if text in ("raw_text", "input_ids"):
        if recipe.text_encoder is not None:
            tokenizer = AutoTokenizer.from_pretrained(recipe.text_encoder)
        else:
            tokenizer = word_tokenizer(train["text"][:], recipe.model.get("text_config") or {})
    sizes = {modality: corpus.feature_size(modality) for modality in MODALITIES}
    if text != "text_values":
        sizes["text"] = None
    normalization = {}
    for modality in recipe.normalize:
        if sizes.get(modality) is None:
            raise ValueError(f"`normalize` names {modality!r}, but the run reads no such features.")
        column = f"{modality}_values"
        normalization[modality] = fit_normalization((row[column] for row in train.select_columns(column)), modality)
    described = {
        modality: EXTRACTORS[modality][made["name"]].description for modality, made in corpus.extractors.items()
    }
    return MultimodalProcessor(
        tokenizer,
        text_input="tokens" if tokenizer is not None else "values" if text else None,
        max_text_length=recipe.max_text_length,
        normalization=normalization,
        **{f"{modality}_feature_size": size for modality, size in sizes.items()},
        **{f"{modality}_feature_set": name for modality, name in (described | recipe.feature_sets).items()},
        **{f"{modality}_extractor": settings for modality, settings in corpus.extractors.items()},
    )


def build_model(recipe: Recipe, processor: MultimodalProcessor):
    """The model at the start of training; the text encoder is pretrained where the recipe names one."""
    model_class: Any = next(cls for cls in MODEL_CLASSES if cls.config_class.model_type == recipe.model_type)
    config_class = model_class.config_class
    fields = dict(recipe.model)
    for modality in MODALITIES:
        name = f"{modality}_feature_size"
        size = getattr(processor, name)
        if fields.get(name) not in (None, size):
            raise ValueError(f"`model.{name}` is {fields[name]}, but the data has {size} features per step.")
        fields[name] = size
    if recipe.label_generation != "none" and recipe.target.name != "sentiment":
        raise ValueError(
            f"`label_generation: {recipe.label_generation}` makes labels of a sentiment that is one number; with "
            f"`model.target: {recipe.target.name}` set it to none."
        )
    if recipe.label_generation != "none" and "tasks" not in config_class.field_names():
        raise ValueError(
            f"`label_generation: {recipe.label_generation}` is for architectures with unimodal tasks, which "
            f"{recipe.model_type} does not have; set it to none."
        )
    only_multimodal = recipe.label_generation == "none" and "tasks" in config_class.field_names()
    if only_multimodal and fields.setdefault("tasks", ["M"]) != ["M"]:
        raise ValueError(
            "`label_generation: none` leaves the unimodal tasks without labels, and their heads untrained; got "
            f"`model.tasks: {fields['tasks']}`. Set it to [M], or choose where the labels come from."
        )
    if processor.text_input == "tokens" and recipe.text_encoder is not None:
        fields.pop("text_config", None)
        return model_class.from_text_encoder(config_class(**fields), recipe.text_encoder)
    if processor.text_input == "tokens":
        tokenizer = processor.tokenizer
        fields["text_config"] = {
            **fields["text_config"],
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
        }
    return model_class(config_class(**fields))


def model_of_stage(model, stage: Stage):
    """
    The model as a stage trains it.

    Args:
        model: The model so far.
        stage: Its `model` must leave the model's parameters as they are.

    Returns:
        The same model, or one with its weights where the configuration changes.

    Raises:
        ValueError: for fields that change the parameters, and for a name that no parameter begins with.
    """
    fields, parts = stage.model, stage.trainable or stage.frozen or []
    place = f" of the stage {stage.name!r}" if stage.name else ""
    if fields:
        content = {**model.config.to_dict(), **fields}
        changed = type(model)(type(model.config).from_dict(content))
        shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (model, changed)]
        if shapes[0] != shapes[1]:
            other = sorted(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
            raise ValueError(
                f"A stage's `model` may not change what parameters there are, but {fields} changes "
                f"{', '.join(other[:3])}; set such fields in the recipe's `model`."
            )
        changed.load_state_dict(model.state_dict())
        model = changed
    names = [name for name, _ in model.named_parameters()]
    for part in parts:
        if not any(_begins(name, part) for name in names):
            known = sorted({".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)})
            nearest = difflib.get_close_matches(part, known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"`{'trainable' if stage.trainable else 'frozen'}`{place} names {part!r}, which begins no "
                f"parameter of the model; the nearest part is {nearest!r}."
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(_begins(name, part) for part in parts) == (stage.trainable is not None)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        whole = f"The stage {stage.name!r}" if stage.name else "The recipe"
        raise ValueError(f"{whole} trains nothing: `frozen` names every part of the model.")
    return model


def _begins(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def word_tokenizer(texts: Iterable[str], text_config: dict) -> PreTrainedTokenizerFast:
    """
    A tokenizer of whole lower-case words and punctuation marks, for an encoder that is trained from scratch.

    Args:
        texts: The training split's.
        text_config: Its `vocab_size` and `max_position_embeddings` bound the vocabulary and the length.
    """
    tokenizer = Tokenizer(WordLevel(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = WordLevelTrainer(
        vocab_size=text_config.get("vocab_size", 30_000),
        special_tokens=list(SPECIAL_TOKENS.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(np.asarray(texts, dtype=object).tolist()), trainer)
    cls, sep = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=text_config.get("max_position_embeddings", 512),
        **SPECIAL_TOKENS,
    )

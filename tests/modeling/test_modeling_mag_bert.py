"""MAG-BERT against its equations, row by row and without padding, with a text encoder and without; its size."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig

from configuration import MagBertConfig
from modeling import MagBertModel
from modeling.modality_sequence import ModalitySequence
from tests.modeling.test_multimodal_shift import displaced, normalised, numpy_weights, relu

SIZES = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 9}
BERT = {"model_type": "bert", "max_position_embeddings": 12, **SIZES}
BERT_BASE = {"model_type": "bert"}  # the defaults are those of bert-base-uncased
OTHERS = {"audio_feature_size": 3, "vision_feature_size": 4}
SMALL = {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT, AUDIO, VISION = (4, 2, 3, 5, 0, 0, 0), (7, 5, 0, 0, 3, 0, 0), (2, 3, 4, 0, 6, 5, 0)  # steps by row
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}


def small_model(**fields):
    model = MagBertModel(MagBertConfig(**{**OTHERS, **fields}))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        # Every weight is another one than it starts from; those of the encoder are left as large as they are.
        nn.init.normal_(parameter, std=0.1 if "text_encoder" in name else 0.5)
    return model.double().eval()


def make_batch(config, seed=0):
    """Left-aligned rows of the lengths above, with NaN where there is nothing."""
    torch.manual_seed(seed)
    batch = {}
    for modality, lengths in {"text": TEXT, "audio": AUDIO, "vision": VISION}.items():
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        size = getattr(config, f"{modality}_feature_size")
        if modality == "text" and config.text_config is not None:
            batch["input_ids"] = torch.randint(1, 40, mask.shape)
        elif size is not None:
            values = torch.randn(*mask.shape, size).double()
            batch[f"{modality}_values"] = values.masked_fill(~mask[..., None], math.nan)
        if modality in config.modalities:
            batch[MASKS[modality]] = mask.long()
    return batch


def share(steps, n, want):
    """The mean over a token's share of a modality's steps."""
    first, last = math.floor(n * len(steps) / want), math.ceil((n + 1) * len(steps) / want)
    return steps[first:last].mean(axis=0)


def beside(batch, row, n, want, modalities=("audio", "vision")):
    lengths = {m: int(batch[MASKS[m]][row].sum()) for m in modalities}
    return {m: share(batch[f"{m}_values"][row, :k].numpy(), n, want) for m, k in lengths.items() if k}


def gated(model, word, others, there):
    weights = {k.removeprefix("gate."): v for k, v in numpy_weights(model).items() if k.startswith("gate.")}
    return normalised(weights, "norm.", displaced(weights, word, others, model.config.beta, relu, there, "shift."))


def predicted(model, state):
    """Of one row's state."""
    weights = numpy_weights(model)
    pooled = np.tanh(weights["pooler.weight"] @ state + weights["pooler.bias"])
    return weights["output.weight"] @ pooled + weights["output.bias"]


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_with_a_text_encoder(beta):
    model = small_model(text_config=BERT, beta=beta)
    encoder, batch = model.text_encoder, make_batch(model.config)
    with torch.no_grad():
        found = model(**batch).logits
        for row, tokens in enumerate(TEXT):
            read = max(tokens, 1)  # a row without text has one position, which is empty
            words = encoder.embeddings(input_ids=batch["input_ids"][row : row + 1, :read])[0].numpy() * (tokens > 0)
            words = [gated(model, words[n], beside(batch, row, n, read), tokens > 0) for n in range(read)]
            states = torch.from_numpy(np.stack(words))[None]
            for layer in encoder.encoder.layer:
                output = layer(states)
                states = output if isinstance(output, torch.Tensor) else output[0]
            expected = predicted(model, states[0, 0].numpy())
            np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-8, err_msg=f"row {row}")


def position(step, size):
    """Sinusoidal, counted from 1; sines, then cosines."""
    half = size // 2
    angles = [(step + 1) * math.exp(-k * math.log(10_000) / (half - 1)) for k in range(half)]
    return np.array([math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles])


@pytest.mark.parametrize("text", [True, False], ids=["text_values", "no_text"])
def test_without_a_text_encoder(text):
    model = small_model(**SMALL, **({"text_feature_size": 5} if text else {}))
    batch, weights = make_batch(model.config), numpy_weights(model)
    anchor, *others = model.config.modalities
    with torch.no_grad():
        found = model(**batch).logits
        for row in range(len(TEXT)):
            lengths = {m: int(batch[MASKS[m]][row].sum()) for m in model.config.modalities}
            steps = next((k for k in lengths.values() if k), 0)
            state = np.zeros(SMALL["hidden_size"])
            if steps:
                words = []
                for n in range(steps):
                    word = position(n, len(state))
                    if lengths[anchor]:
                        values = batch[f"{anchor}_values"][row, n].numpy()
                        word = word + weights["sequence_encoder.projection.weight"] @ values
                        word = word + weights["sequence_encoder.projection.bias"]
                    words.append(gated(model, word, beside(batch, row, n, steps, others), lengths[anchor] > 0))
                states = torch.from_numpy(np.stack(words))[None]
                for layer in model.sequence_encoder.layers:
                    states = layer(states, states, torch.ones(1, steps).bool())
                state = normalised(weights, "sequence_encoder.norm.", states[0, -1].numpy())
            np.testing.assert_allclose(found[row].numpy(), predicted(model, state), atol=1e-8, err_msg=f"row {row}")


def test_rows_without_text_differ_by_their_audio_and_vision():
    model = small_model(text_config=BERT)
    with torch.no_grad():
        first, second = (model(**make_batch(model.config, seed)).logits[[4, 5]] for seed in (0, 1))
    assert (first - second).abs().min() > 1e-3


def test_a_configuration_of_one_modality_has_no_gate():
    text = MagBertModel(MagBertConfig(text_config=BERT)).eval()
    assert text.gate is None
    ids = torch.tensor([[5, 6, 7]])
    sequence = text.sequences(input_ids=ids)["text"]
    torch.testing.assert_close(sequence.values, text.text_encoder(input_ids=ids).last_hidden_state, atol=0, rtol=0)
    audio = small_model(vision_feature_size=None, **SMALL)
    assert audio.gate is None and torch.isfinite(audio(audio_values=torch.randn(2, 3, 3).double()).logits).all()


def test_no_hook_stays_behind():
    model = small_model(text_config=BERT)
    model(**make_batch(model.config))
    assert not model.text_encoder.embeddings._forward_hooks
    nothing = {m: ModalitySequence(torch.zeros(1, 1, 4), torch.zeros(1, 1).bool()) for m in ("audio", "vision")}
    with pytest.raises(ValueError, match="input_ids"):  # which the encoder misses
        model.encode_text({"attention_mask": torch.ones(1, 2)}, torch.ones(1, 2).bool(), nothing)
    assert not model.text_encoder.embeddings._forward_hooks


def test_embeddings_may_be_narrower_than_the_encoder():
    model = small_model(text_config={**BERT, "model_type": "albert", "embedding_size": 4})
    assert model.gate.norm.normalized_shape == (4,) and model.pooler.in_features == 8
    assert torch.isfinite(model(**make_batch(model.config)).logits).all()


def test_an_encoder_without_embeddings_is_refused():
    gpt2 = {"model_type": "gpt2", "vocab_size": 40, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 12}
    with pytest.raises(ValueError, match="`text_config`.*GPT2Model.*`embeddings`.*`audio_feature_size`"):
        MagBertModel(MagBertConfig(text_config=gpt2, **OTHERS))
    assert MagBertModel(MagBertConfig(text_config=gpt2)).gate is None


@pytest.mark.parametrize("beta", [0, -1.0])
def test_beta_must_be_positive(beta):
    with pytest.raises(ValueError, match="`beta`"):
        MagBertConfig(beta=beta)
    with pytest.raises(ValueError, match="`beta`"):
        MagBertConfig(beta=math.inf)


@pytest.mark.parametrize(
    "audio, vision, ours, code",
    [(74, 47, 1_369_344, 1_370_112), (5, 20, 1_221_888, 1_222_656), (74, 35, 1_350_912, 1_351_680)],
)
def test_number_of_parameters(audio, vision, ours, code):
    """
    Of the gate, at the sizes of the authors (MOSI, 74 and 47), of MMSA's MOSI and of MOSEI. The code, measured in
    MMSA's copy, has a bias of 768 in each of its two directions where the paper has one in all: 768 more. Pooler and
    output are the same there.
    """
    assert AutoConfig.for_model(**BERT_BASE).hidden_size == 768
    with torch.device("meta"):
        model = MagBertModel(MagBertConfig(text_config=BERT_BASE, audio_feature_size=audio, vision_feature_size=vision))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts == {"text_encoder": 108_891_648, "gate": ours, "pooler": 590_592, "output": 769, "dropout": 0}
    assert code - ours == 768

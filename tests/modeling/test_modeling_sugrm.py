"""
SUGRM, and Self-MM with its parts, against their equations in NumPy and plain Python and against their published sizes.
What reads the sequences has a file of its own: here its input and output are looked at.
"""

import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError

from configuration import SelfMMConfig, SugrmConfig
from modeling import SelfMMModel, SugrmModel
from modeling.multimodal_transformer import MultimodalTransformer
from modeling.sparse_phased_transformer import SparsePhasedTransformer

MODALITIES = ("text", "audio", "vision")
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
WIDTHS = {"text": 4, "audio": 5, "vision": 3}
FEATURES = {f"{modality}_feature_size": width for modality, width in WIDTHS.items()}
DROPOUTS = ("attention_dropout", "relu_dropout", "residual_dropout", "embedding_dropout")
SMALL = {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "spt_stride": 2, "spt_radii": [2, 1, 1]}
SMALL |= {"recalibration_reduction": 3, **dict.fromkeys(DROPOUTS, 0.0)}
# By row: of the second one the padding is in front, the third one has a hole, the fourth one lacks audio.
STEPS = {
    "text": ("1111111", "0000011", "1011001", "1110000"),
    "audio": ("11111", "00111", "10010", "00000"),
    "vision": ("1111", "0001", "0110", "1111"),
}
LABELS = [1.5, -2.0, 0.25, 0.5]
UNIMODAL = {"text": [0.5, -2.0, 3.0, 1.0], "audio": [-1.0, 0.0, 0.5, 3.0], "vision": [2.5, 1.0, -0.75, -3.0]}
BERT = {"vocab_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8}


def small_model(model_class=SugrmModel, **changes):
    """Text as `text_values`, every size different, and no gate near one."""
    own = {"common_size": 8, "output_dropout": 0.0} if model_class is SugrmModel else {}
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**{**FEATURES, **SMALL, **own, **changes})).eval()
    if model.recalibration is not None:
        with torch.no_grad():
            for parameter in model.recalibration.parameters():
                parameter.normal_(0.0, 0.8)
    return model


def small_batch(modalities=MODALITIES):
    random, batch = np.random.default_rng(0), {}
    for modality in modalities:
        mask = np.array([[step == "1" for step in row] for row in STEPS[modality]])
        values = random.normal(size=(*mask.shape, WIDTHS[modality]))
        batch[f"{modality}_values"] = torch.from_numpy(np.where(mask[..., None], values, 0)).float()
        batch[MASKS[modality]] = torch.from_numpy(mask).long()
    return batch


def valid_steps(batch, row):
    """By modality the row's valid steps (L, d)."""
    names = [modality for modality in MODALITIES if f"{modality}_values" in batch]
    return {m: batch[f"{m}_values"][row].double().numpy()[batch[MASKS[m]][row].numpy() == 1] for m in names}


def under(model, prefix):
    """Weights whose names start with a prefix, without it."""
    named = model.state_dict().items()
    return {name.removeprefix(prefix): tensor.double().numpy() for name, tensor in named if name.startswith(prefix)}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recalibrated(model, sample):
    """2 sigmoid(W_s ReLU(W_z [S_t; S_a; S_v] + b_z) + b_s) F_s."""
    weights = under(model, "recalibration.")
    means = [steps.sum(axis=0) / max(len(steps), 1) for steps in sample.values()]
    joint = np.maximum(weights["squeeze.weight"] @ np.concatenate(means) + weights["squeeze.bias"], 0)
    return {
        m: steps * 2 * sigmoid(weights[f"excite.{m}.weight"] @ joint + weights[f"excite.{m}.bias"])
        for m, steps in sample.items()
    }


def lstm_end_state(weights, steps):
    """After (L, d): i, f, o = sigmoid(...), g = tanh(...), c = f c + i g, h = o tanh(c); zeros without steps."""
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    state = cell = np.zeros(len(bias) // 4)
    for step in steps:
        i, f, g, o = np.split(weights["weight_ih_l0"] @ step + weights["weight_hh_l0"] @ state + bias, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
    return state


def expected_answer(model, task, representation):
    """Prediction and F* of one task."""
    head = under(model, f"heads.{task}.")

    def linear(name, x):
        return head[f"{name}.weight"] @ x + head[f"{name}.bias"]

    if isinstance(model, SelfMMModel):
        space = np.maximum(linear("space", representation), 0)
        hidden = np.maximum(linear("hidden", space), 0) if model.config.head_layers == 3 else space
        return linear("output", hidden), space
    hidden = np.maximum(linear("hidden", representation), 0)
    space = linear("space", hidden) if model.config.head_layers == 3 else hidden
    return linear("output", space), space


def assert_answers(model, output, row, represented):
    """Of all tasks, from each modality's representation, which are joined in the order text, audio, vision."""
    joined = {**represented, "fusion": np.concatenate([represented[m] for m in model.config.modalities])}
    for task in model.heads:
        prediction, space = expected_answer(model, task, joined[task])
        found = output.logits if task == "fusion" else output[f"{task}_logits"]
        np.testing.assert_allclose(found[row].numpy(), prediction, atol=1e-5, err_msg=f"{task}, row {row}")
        np.testing.assert_allclose(output[f"{task}_state"][row].numpy(), space, atol=1e-5, err_msg=f"{task}, row {row}")


def watched(model, batch):
    """The model's output, and what goes into the encoder of all modalities and what comes out."""
    passed = []
    hook = model.sequence_encoder.encoder.register_forward_hook(lambda _, given, found: passed.append((*given, found)))
    with torch.no_grad():
        output = model(**batch)
    hook.remove()
    ((given, found),) = passed
    return output, given, found


def assert_uses_its_encoder(model, batch):
    """The encoder reads recalibrated, left-aligned sequences, and its last valid states represent the modalities."""
    output, given, found = watched(model, batch)
    for row in range(4):
        sample = valid_steps(batch, row)
        represented, expected = {}, recalibrated(model, sample) if model.config.recalibration else sample
        for modality, steps in expected.items():
            values, mask = given[modality]
            assert mask[row].tolist() == [True] * len(steps) + [False] * (mask.shape[1] - len(steps))
            np.testing.assert_allclose(values[row, : len(steps)].numpy(), steps, atol=1e-5, err_msg=modality)
            states, mask = found[modality]
            last = [i for i, there in enumerate(mask[row].tolist()) if there][-1:]
            represented[modality] = states[row].double().numpy()[last].sum(axis=0)  # zeros where there is none
        assert_answers(model, output, row, represented)
    assert output.fusion_state.std() > 0.05  # not a comparison of zeros


@pytest.mark.parametrize("sequence_encoder", ["spt", "transformer", "lstm"])
@pytest.mark.parametrize("recalibration", [True, False])
@pytest.mark.parametrize("head_layers", [2, 3])
def test_forward_equals_the_equations(sequence_encoder, recalibration, head_layers):
    model = small_model(sequence_encoder=sequence_encoder, recalibration=recalibration, head_layers=head_layers)
    assert any(name.startswith("recalibration.") for name in model.state_dict()) == recalibration
    if recalibration:
        assert model.recalibration.squeeze.out_features == 4  # 4 + 5 + 3 features, `recalibration_reduction` 3
    assert_uses_its_encoder(model, small_batch())


@pytest.mark.parametrize("modalities", [("text", "vision"), ("audio", "vision"), ("audio",)])
@pytest.mark.parametrize("sequence_encoder", ["spt", "transformer", "lstm"])
def test_corpora_without_a_modality(modalities, sequence_encoder):
    sizes = {f"{modality}_feature_size": None for modality in MODALITIES if modality not in modalities}
    model = small_model(sequence_encoder=sequence_encoder, **sizes)
    assert set(model.heads) == {"fusion", *modalities}
    assert_uses_its_encoder(model, small_batch(modalities))


def test_self_mm_as_in_table_4():
    """With the recalibration, and with an encoder of all modalities in place of the LSTMs."""
    for encoder in ("spt", "transformer"):
        for recalibration in (True, False):
            model = small_model(SelfMMModel, sequence_encoder=encoder, recalibration=recalibration, head_layers=3)
            assert_uses_its_encoder(model, small_batch())
            assert not any(name.endswith("_encoder") for name, _ in model.named_children() if name[0] in "tav")


def test_recalibrated_self_mm():
    model, batch = small_model(SelfMMModel, recalibration=True, audio_projection_size=3), small_batch()
    with torch.no_grad():
        output = model(**batch)
    for row in range(4):
        represented = {}
        for modality, steps in recalibrated(model, valid_steps(batch, row)).items():
            state = lstm_end_state(under(model, f"{modality}_encoder.lstm."), steps)
            if modality == "audio":
                encoder = under(model, "audio_encoder.projection.")
                state = encoder["weight"] @ state + encoder["bias"] if len(steps) else np.zeros(3)
            represented[modality] = state
        assert_answers(model, output, row, represented)


def test_lstms_of_sugrm():
    """One per modality, all of the same width, each over the recalibrated valid steps."""
    model, batch = small_model(sequence_encoder="lstm", hidden_size=7), small_batch()
    with torch.no_grad():
        output = model(**batch)
    for row in range(4):
        steps = recalibrated(model, valid_steps(batch, row))
        lstms = {modality: under(model, f"sequence_encoder.encoder.lstms.{modality}.") for modality in steps}
        assert_answers(model, output, row, {m: lstm_end_state(lstms[m], steps[m]) for m in steps})


def text_states(model, ids, length):
    with torch.no_grad():
        return model.text_encoder(input_ids=ids[:length][None]).last_hidden_state[0].double().numpy()


@pytest.mark.parametrize("model_class", [SugrmModel, SelfMMModel])
def test_states_of_a_text_encoder_are_recalibrated(model_class):
    """All of them are squeezed; Self-MM then reads the first, SUGRM's encoder all."""
    text_config = {"hidden_size": 8, "intermediate_size": 8, **BERT}
    sizes = {"text_feature_size": None, "audio_feature_size": None, "text_config": text_config}
    model, batch = small_model(model_class, recalibration=True, **sizes), small_batch(("vision",))
    batch["input_ids"] = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9], [1, 1, 1, 1], [5, 0, 0, 0]])
    lengths = (3, 4, 0, 1)
    batch["attention_mask"] = (torch.arange(4) < torch.tensor(lengths)[:, None]).long()
    if model_class is SugrmModel:
        output, given, _ = watched(model, batch)
    else:
        output = model(**batch)
    for row, length in enumerate(lengths):
        states = text_states(model, batch["input_ids"][row], length) if length else np.zeros((0, 8))
        expected = recalibrated(model, {"text": states, **valid_steps(batch, row)})["text"]
        if model_class is SugrmModel:
            found = given["text"].values[row, :length].numpy()
            np.testing.assert_allclose(found, expected, atol=1e-5)
        else:
            space = expected_answer(model, "text", expected[0] if length else np.zeros(8))[1]
            np.testing.assert_allclose(output.text_state[row].detach().numpy(), space, atol=1e-5)


@pytest.mark.parametrize("model_class", [SugrmModel, SelfMMModel])
@pytest.mark.parametrize("encoder", ["spt", "transformer"])
def test_configuration_reaches_the_encoder(model_class, encoder):
    """In training, where each dropout counts: an encoder that is built by hand draws the same numbers."""
    dropouts = dict(zip(DROPOUTS, (0.1, 0.2, 0.3, 0.4), strict=True))
    shifts = {"spt_stride": 3, "spt_radii": [2, 1, 0], "spt_input_shifts": ["phase"]}
    sizes = {"hidden_size": 9, "num_hidden_layers": 4, "num_attention_heads": 3}
    model = small_model(model_class, sequence_encoder=encoder, **sizes, **shifts, **dropouts).train()
    if encoder == "spt":
        built = SparsePhasedTransformer(WIDTHS, 9, 4, 3, 3, [2, 1, 0], ["phase"], **dropouts)
    else:
        built = MultimodalTransformer(WIDTHS, 9, 4, 3, **dropouts)
    built.load_state_dict(model.sequence_encoder.encoder.state_dict())
    torch.manual_seed(0)
    _, given, found = watched(model, small_batch())
    with torch.no_grad():
        torch.manual_seed(0)
        torch.testing.assert_close(built(given), found, atol=0, rtol=0)


@pytest.mark.parametrize(
    "encoder, size", [("spt", 6), ("transformer", 12), ("lstm", 6)], ids=["spt", "transformer", "lstm"]
)
def test_tasks_meet_in_one_space(encoder, size):
    """Whatever is read, in SUGRM; each of Self-MM's tasks has its own."""
    model = small_model(sequence_encoder=encoder)
    assert model.state_sizes == dict.fromkeys(("fusion", *MODALITIES), 8)
    with torch.no_grad():
        output = model(**small_batch())
    for task, width in model.state_sizes.items():
        assert output[f"{task}_state"].shape == (4, width)
        assert model.heads[task].hidden.in_features == (3 * size if task == "fusion" else size)
    if encoder != "lstm":
        sizes = {"fusion_size": 13, "text_size": 9, "audio_size": 10, "vision_size": 11}
        other = small_model(SelfMMModel, sequence_encoder=encoder, **sizes)
        assert other.state_sizes == {"fusion": 13, "text": 9, "audio": 10, "vision": 11}


@pytest.mark.parametrize("head_layers", [2, 3])
def test_dropout_inside_the_heads(head_layers):
    """On what comes out of the ReLU: with nearly all of it dropped, what is behind it is a bias."""
    model, batch = small_model(head_layers=head_layers, output_dropout=1 - 1e-12), small_batch()
    with torch.no_grad():
        steady, torn = model(**batch), model.train()(**batch)
        for task, head in model.heads.items():
            name = "logits" if task == "fusion" else f"{task}_logits"
            state = torn[f"{task}_state"]
            if head_layers == 2:
                assert torch.equal(state, steady[f"{task}_state"]) and state.max() > 0.05
                assert torch.equal(torn[name], head.output.bias.expand(4, 1))
            else:
                assert torch.equal(state, head.space.bias.expand(4, 8))
                torch.testing.assert_close(torn[name], state @ head.output.weight.T + head.output.bias)


@pytest.mark.parametrize("head_layers", [2, 3])
def test_nothing_is_random_without_dropout(head_layers):
    """At a stride up to 20; F* is a ReLU's in the paper alone."""
    model, batch = small_model(head_layers=head_layers), small_batch()
    with torch.no_grad():
        steady, torn = model(**batch), model.train()(**batch)
    torch.testing.assert_close(dict(steady), dict(torn), atol=0, rtol=0)
    states = torch.cat([steady[f"{task}_state"] for task in ("fusion", *MODALITIES)])
    assert (states.min() >= 0) == (head_layers == 2)


def expected_loss(output, unimodal, batch):
    """Section 3.4, sample by sample; a sample that lacks a modality has no term for it."""
    total = 0.0
    for i, label in enumerate(LABELS):
        total += abs(output.logits[i].item() - label)
        for modality, targets in unimodal.items():
            if batch[MASKS[modality]][i].any():
                weight = math.tanh(abs(targets[i] - label))
                total += weight * abs(output[f"{modality}_logits"][i].item() - targets[i])
    return total / len(LABELS)


@pytest.mark.parametrize("tasks", ["M", "MV", "MA", "MT", "MAV", "MAT", "MVT", "MTAV"])
def test_tasks_decide_the_heads_and_the_loss(tasks):
    """The rows of table 3, with the loss of section 3.4 over the tasks whose labels are given."""
    model, batch = small_model(tasks=list(tasks)), small_batch()
    trained = tuple(modality for modality in MODALITIES if modality[0].upper() in tasks)
    assert tuple(model.heads) == tuple(model.state_sizes) == ("fusion", *trained)
    assert model.config.unimodal_tasks == trained
    for given in (MODALITIES, ("audio",), ()):
        labels = {f"{modality}_labels": torch.tensor(UNIMODAL[modality]) for modality in given}
        output = model(**batch, labels=torch.tensor(LABELS), **labels)
        unimodal = {modality: UNIMODAL[modality] for modality in given if modality in trained}
        assert output.loss.item() == pytest.approx(expected_loss(output, unimodal, batch), abs=1e-5)
        for modality in MODALITIES:
            for name in (f"{modality}_logits", f"{modality}_state"):
                assert (getattr(output, name) is not None) == (modality in trained)
    assert model(**batch).loss is None


@pytest.mark.parametrize("audio, vision, published", [(5, 20, 486_721), (74, 35, 562_468)], ids=["mosi", "mosei"])
def test_size_of_the_authors_network(audio, vision, published):
    """
    Without the text encoder, whose width is that of BERT base, and less the normalisations of the phased transformer
    that nothing reads, 64 numbers per modality. The paper's four heads have one layer of 32 by 32 less.
    """
    text_config = {"hidden_size": 768, "intermediate_size": 8, **BERT}
    config = {"text_config": text_config, "audio_feature_size": audio, "vision_feature_size": vision}
    for head_layers, expected in ((3, published - 192), (2, published - 192 - 4 * (32 * 32 + 32))):
        named = SugrmModel(SugrmConfig(**config, head_layers=head_layers)).named_parameters()
        assert sum(p.numel() for name, p in named if not name.startswith("text_encoder.")) == expected


def test_defaults():
    """SUGRM's are those of table 7 for CMU-MOSI; Self-MM as published has neither recalibration nor transformers."""
    config = SugrmConfig()
    assert (config.recalibration, config.sequence_encoder, config.recalibration_reduction) == (True, "spt", 4)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 4, 8)
    assert (config.spt_stride, config.spt_radii) == (5, [8, 4, 3])
    assert config.spt_input_shifts == ["stride", "phase", "random"]
    assert {getattr(config, name) for name in (*DROPOUTS, "output_dropout")} == {0.3}
    assert (config.common_size, config.head_layers, config.tasks) == (32, 2, ["M", "T", "A", "V"])
    assert (SelfMMConfig().recalibration, SelfMMConfig().sequence_encoder) == (False, "lstm")


SHARED_ERRORS = [
    ({"tasks": ["T", "A"]}, ["`tasks`", "M among them", "'T'"]),
    ({"tasks": []}, ["`tasks`", "[]"]),
    ({"tasks": ["M", "A", "A"]}, ["`tasks`", "different", "'A', 'A'"]),
    ({"tasks": ["M", "audio"]}, ["`tasks`", "'audio'"]),
    ({"spt_radii": [8, 4]}, ["`spt_radii`", "three", "[8, 4]"]),
    ({"spt_radii": [8, 4, 3, 2]}, ["`spt_radii`", "three", "[8, 4, 3, 2]"]),
    ({"spt_radii": [8, -1, 3]}, ["`spt_radii`", "at least 0", "-1"]),
    ({"spt_radii": [8, 4.5, 3]}, ["`spt_radii`", "whole", "4.5"]),
    ({"spt_radii": [8, True, 3]}, ["`spt_radii`", "whole", "True"]),
    ({"spt_input_shifts": ["stride", "zigzag"]}, ["`spt_input_shifts`", "'zigzag'", "stride, phase, random"]),
    ({"spt_input_shifts": ["phase", "phase"]}, ["`spt_input_shifts`", "different"]),
    ({"spt_input_shifts": [["stride"]]}, ["`spt_input_shifts`", "different"]),
    ({"tasks": ["M", ["T"]]}, ["`tasks`", "different letters"]),
    ({"spt_input_shifts": ["S,P,R"]}, ["`spt_input_shifts`", "'S,P,R'"]),
    ({"attention_dropout": 1.0}, ["`attention_dropout`", "1.0"]),
    ({"relu_dropout": -0.1}, ["`relu_dropout`", "-0.1"]),
    ({"residual_dropout": float("nan")}, ["`residual_dropout`", "nan"]),
    ({"embedding_dropout": 2}, ["`embedding_dropout`", "2"]),
    ({"hidden_size": 0}, ["`hidden_size`", "at least 1", "0"]),
    ({"num_hidden_layers": 0}, ["`num_hidden_layers`", "at least 1", "0"]),
    ({"num_attention_heads": 0}, ["`num_attention_heads`", "at least 1", "0"]),
    ({"spt_stride": 0}, ["`spt_stride`", "at least 1", "0"]),
    ({"recalibration_reduction": 0}, ["`recalibration_reduction`", "at least 1", "0"]),
    ({"head_layers": 1}, ["`head_layers`", "got 1"]),
    ({"head_layers": 4}, ["`head_layers`", "got 4"]),
    ({"num_labels": 2}, ["`num_labels`", "2"]),
    ({"problem_type": "multi_label_classification"}, ["`problem_type`", "multi_label_classification"]),
    ({"problem_type": "single_label_classification", "num_labels": 3}, ["single_label_classification", "and 3"]),
]
SUGRM_ERRORS = [
    ({"common_size": 0}, ["`common_size`", "at least 1", "0"]),
    ({"output_dropout": 1}, ["`output_dropout`", "below 1", "1"]),
]


@pytest.mark.parametrize(
    "config_class, fields, words",
    [(config_class, *case) for config_class in (SugrmConfig, SelfMMConfig) for case in SHARED_ERRORS]
    + [(SugrmConfig, *case) for case in SUGRM_ERRORS],
    ids=lambda value: getattr(value, "model_type", "-".join(value) if isinstance(value, dict) else ""),
)
def test_values_outside_the_rules(config_class, fields, words):
    with pytest.raises(ValueError) as error:
        config_class(**fields)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("config_class", [SugrmConfig, SelfMMConfig])
@pytest.mark.parametrize("encoder", ["spt", "transformer"])
def test_heads_divide_the_width_where_there_are_heads(config_class, encoder):
    fields = {"hidden_size": 30, "num_attention_heads": 4}
    with pytest.raises(ValueError, match="`num_attention_heads` must divide `hidden_size`; got 4 and 30"):
        config_class(**fields, sequence_encoder=encoder)
    assert config_class(**fields, sequence_encoder="lstm").hidden_size == 30
    assert config_class(hidden_size=30, num_attention_heads=5, sequence_encoder=encoder).num_attention_heads == 5


@pytest.mark.parametrize(
    "field, value",
    [("sequence_encoder", "gru"), ("recalibration", "yes"), ("spt_stride", 2.5), ("spt_radii", 8)]
    + [("spt_input_shifts", "stride"), ("hidden_size", None), ("attention_dropout", "0.1"), ("head_layers", True)],
)
@pytest.mark.parametrize("config_class", [SugrmConfig, SelfMMConfig])
def test_values_of_another_type(config_class, field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=f"'{field}'"):
        config_class(**{field: value})

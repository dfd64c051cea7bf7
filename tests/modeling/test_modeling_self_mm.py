"""Self-MM against its equations, written out with NumPy and plain Python, and against its published sizes."""

import itertools
import math

import numpy as np
import pytest
import torch

from configuration import SelfMMConfig
from modeling import SelfMMModel

MODALITIES = ("text", "audio", "vision")
ONE_LAYER_BERT = {"vocab_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8}
AUTHORS_CODE = {"head_layers": 3, "audio_projection_size": 16, "vision_projection_size": 32}
# CMU-MOSI's sizes are the defaults.
MOSI = {"audio_feature_size": 5, "vision_feature_size": 20, **AUTHORS_CODE}
MOSEI = {"audio_feature_size": 74, "vision_feature_size": 35, "vision_hidden_size": 32, "text_size": 32}
MOSEI |= {"vision_size": 16, **AUTHORS_CODE}
SIMS = {"audio_feature_size": 33, "vision_feature_size": 709, "audio_hidden_size": 16, **AUTHORS_CODE}


def small_model(seed=0, **changes):
    """Text as `text_values`, every size different, and no weight near zero."""
    sizes = {"text_feature_size": 4, "audio_feature_size": 5, "vision_feature_size": 3}
    sizes |= {"text_hidden_size": 6, "audio_hidden_size": 7, "vision_hidden_size": 8}
    sizes |= {"fusion_size": 12, "text_size": 9, "audio_size": 10, "vision_size": 11}
    torch.manual_seed(seed)
    return SelfMMModel(SelfMMConfig(**{**sizes, **changes})).eval()


def small_batch(config, lengths=((4, 2, 3), (1, 6, 2), (3, 3, 3))):
    """Padded batch with one row of lengths per modality; where a length is zero, the sample lacks the modality."""
    random, batch = np.random.default_rng(0), {}
    for modality, counts in zip(config.modalities, lengths, strict=False):
        size = getattr(config, f"{modality}_feature_size")
        steps = max(counts)
        mask = np.arange(steps) < np.array(counts)[:, None]
        batch[f"{modality}_values"] = torch.from_numpy(random.normal(size=(len(counts), steps, size))).float()
        batch["attention_mask" if modality == "text" else f"{modality}_attention_mask"] = torch.from_numpy(mask).long()
    return batch


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_end_state(weights, steps):
    """State after the last step of (T, d): i, f, o = sigmoid(...), g = tanh(...), c = f c + i g, h = o tanh(c)."""
    input_weights, state_weights = weights["weight_ih_l0"], weights["weight_hh_l0"]
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    size = state_weights.shape[1]
    state, cell = np.zeros(size), np.zeros(size)
    for step in steps:
        i, f, g, o = np.split(input_weights @ step + state_weights @ state + bias, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
    return state


def expected_sample(model, sample):
    """Predictions and F* by task, from each modality's valid steps (T, d)."""
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}

    def under(prefix):
        return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}

    represented = {}
    for modality, steps in sample.items():
        encoder = under(f"{modality}_encoder.")
        state = lstm_end_state(under(f"{modality}_encoder.lstm."), steps)
        if "projection.weight" in encoder:
            state = encoder["projection.weight"] @ state + encoder["projection.bias"]
        represented[modality] = state if len(steps) else np.zeros_like(state)
    represented["fusion"] = np.concatenate([represented[modality] for modality in sample])
    answers = {}
    for task, representation in represented.items():
        head = under(f"heads.{task}.")
        space = np.maximum(head["space.weight"] @ representation + head["space.bias"], 0)
        hidden = space
        if model.config.head_layers == 3:
            hidden = np.maximum(head["hidden.weight"] @ space + head["hidden.bias"], 0)
        answers[task] = head["output.weight"] @ hidden + head["output.bias"], space
    return answers


@pytest.mark.parametrize(
    "sizes, published", [(MOSI, 206_980), (MOSEI, 172_532), (SIMS, 381_380)], ids=["mosi", "mosei", "sims"]
)
def test_published_parameter_counts(sizes, published):
    """Without the text encoder, whose width is that of BERT base."""
    config = SelfMMConfig(text_config={"hidden_size": 768, "intermediate_size": 8, **ONE_LAYER_BERT}, **sizes)
    parameters = SelfMMModel(config).named_parameters()
    assert sum(p.numel() for name, p in parameters if not name.startswith("text_encoder.")) == published


def test_the_paper_has_fewer_layers_than_the_code():
    """Two-layer heads on the bare end states: 128, 64, 16 and 32 wide over 768 + 32 + 64, 768, 32 and 64."""
    text_config = {"hidden_size": 768, "intermediate_size": 8, **ONE_LAYER_BERT}
    config = SelfMMConfig(text_config=text_config, audio_feature_size=5, vision_feature_size=20)
    model = SelfMMModel(config)
    heads = sum((width + 1) * size + size + 1 for width, size in ((864, 128), (768, 64), (32, 16), (64, 32)))
    assert sum(p.numel() for p in model.heads.parameters()) == heads
    lstms = sum(4 * (features * hidden + hidden**2 + 2 * hidden) for features, hidden in ((5, 32), (20, 64)))
    encoders = (model.audio_encoder, model.vision_encoder)
    assert sum(p.numel() for encoder in encoders for p in encoder.parameters()) == lstms


@pytest.mark.parametrize("head_layers", [2, 3])
@pytest.mark.parametrize("projections", [{}, {"audio_projection_size": 3, "text_projection_size": 13}])
@pytest.mark.parametrize("lengths", [((4, 2, 3), (1, 6, 2), (3, 3, 3)), ((4, 0, 3), (0, 6, 2), (0, 3, 0))])
def test_forward_equals_the_equations(head_layers, projections, lengths):
    model = small_model(head_layers=head_layers, **projections)
    batch = small_batch(model.config, lengths)
    with torch.no_grad():
        output = model(**batch)
    for row in range(3):
        values = [batch[f"{modality}_values"][row].double().numpy() for modality in MODALITIES]
        sample = {m: v[: counts[row]] for m, v, counts in zip(MODALITIES, values, lengths, strict=True)}
        for task, (prediction, space) in expected_sample(model, sample).items():
            found = output.logits if task == "fusion" else output[f"{task}_logits"]
            np.testing.assert_allclose(found[row].numpy(), prediction, atol=1e-6, err_msg=f"{task}, row {row}")
            np.testing.assert_allclose(output[f"{task}_state"][row].numpy(), space, atol=1e-6)
    assert output.text_state.max() > 0.05  # not a comparison of zeros


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_text_is_represented_by_its_first_token_or_by_their_mean(pooling):
    text_config = {"hidden_size": 8, "intermediate_size": 8, **ONE_LAYER_BERT}
    torch.manual_seed(0)
    model = SelfMMModel(SelfMMConfig(text_config=text_config, text_size=5, text_pooling=pooling)).eval()
    ids, lengths = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9], [1, 1, 1, 1]]), (3, 4, 0)
    mask = (torch.arange(4) < torch.tensor(lengths)[:, None]).long()
    head = model.heads["text"].space
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask)
        for row, length in enumerate(lengths):
            represented = torch.zeros(8)
            if length:
                states = model.text_encoder(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
                represented = states[0] if pooling == "first" else states.sum(dim=0) / length
            expected = torch.relu(head.weight @ represented + head.bias)
            torch.testing.assert_close(output.text_state[row], expected, atol=1e-6, rtol=1e-5)


def expected_loss(output, labels, unimodal, present):
    """Equation 10, sample by sample."""
    total = 0.0
    for i, label in enumerate(labels):
        total += abs(output.logits[i].item() - label)
        for modality, targets in unimodal.items():
            if present[modality][i]:
                weight = math.tanh(abs(targets[i] - label))
                total += weight * abs(output[f"{modality}_logits"][i].item() - targets[i])
    return total / len(labels)


LABELS = [1.5, -2.0, 0.25]
UNIMODAL = {"text": [0.5, -2.0, 3.0], "audio": [-1.0, 0.0, 0.5], "vision": [2.5, 1.0, -0.75]}


@pytest.mark.parametrize("lengths", [((4, 2, 3), (1, 6, 2), (3, 3, 3)), ((4, 0, 3), (0, 6, 2), (0, 0, 0))])
@pytest.mark.parametrize("given", [(), ("audio",), MODALITIES])
def test_loss_equals_equation_10(lengths, given):
    model = small_model()
    batch = small_batch(model.config, lengths)
    unimodal = {modality: UNIMODAL[modality] for modality in given}
    arguments = {f"{modality}_labels": torch.tensor(targets) for modality, targets in unimodal.items()}
    for labels in (torch.tensor(LABELS), torch.tensor(LABELS)[:, None]):
        output = model(**batch, labels=labels, **arguments)
        present = dict(zip(MODALITIES, lengths, strict=True))
        assert output.loss.item() == pytest.approx(expected_loss(output, LABELS, unimodal, present), abs=1e-5)


def head_gradients(model, **labels):
    model.zero_grad()
    model(
        **small_batch(model.config), **{name: torch.tensor(values) for name, values in labels.items()}
    ).loss.backward()
    return {
        task: max(parameter.grad.abs().max().item() for parameter in head.parameters())
        for task, head in model.heads.items()
    }


def test_unimodal_tasks_rest_while_their_labels_equal_the_multimodal_ones():
    model = small_model()
    gradients = head_gradients(model, labels=LABELS, text_labels=LABELS, audio_labels=LABELS, vision_labels=LABELS)
    assert gradients.pop("fusion") > 0 and set(gradients.values()) == {0.0}
    others = {f"{modality}_labels": values for modality, values in UNIMODAL.items()}
    assert min(head_gradients(model, labels=LABELS, **others).values()) > 0


TASKS = ["".join(("M", *rest)) for count in range(4) for rest in itertools.combinations("TAV", count)]


@pytest.mark.parametrize("tasks", TASKS)
def test_tasks_decide_the_heads(tasks):
    """The rows of table 4 of the paper, and M with A and V."""
    model = small_model(tasks=list(tasks))
    trained = {modality for modality in MODALITIES if modality[0].upper() in tasks}
    assert set(model.heads) == {"fusion"} | trained
    arguments = {f"{modality}_labels": torch.tensor(values) for modality, values in UNIMODAL.items()}
    batch = small_batch(model.config)
    output = model(**batch, labels=torch.tensor(LABELS), **arguments)
    for modality in MODALITIES:
        for name in (f"{modality}_logits", f"{modality}_state"):
            assert (getattr(output, name) is not None) == (modality in trained)
    unimodal = {modality: UNIMODAL[modality] for modality in trained}
    always = dict.fromkeys(MODALITIES, [True] * 3)
    assert output.loss.item() == pytest.approx(expected_loss(output, LABELS, unimodal, always), abs=1e-5)
    assert set(model.config.unimodal_tasks) == trained


@pytest.mark.parametrize("present", [("text",), ("audio", "vision"), ("text", "vision")])
def test_corpus_without_a_modality(present):
    model = small_model(**{f"{modality}_feature_size": None for modality in MODALITIES if modality not in present})
    assert model.config.modalities == present and set(model.heads) == {"fusion", *present}
    for modality in MODALITIES:
        assert hasattr(model, f"{modality}_encoder") == (modality in present)
    widths = [getattr(model.config, f"{modality}_hidden_size") for modality in present]
    assert model.heads["fusion"].space.in_features == sum(widths)
    batch = small_batch(model.config)
    output = model(**batch, labels=torch.tensor(LABELS))
    assert output.logits.shape == (3, 1) and torch.isfinite(output.loss)


def test_model_without_any_modality_is_refused():
    with pytest.raises(ValueError, match="SelfMMConfig has no modality.*`audio_feature_size`"):
        SelfMMModel(SelfMMConfig())


def test_dropout_is_where_the_configuration_puts_it():
    """Nothing else is random: with all dropout off, training and evaluation answer alike."""
    off = {f"{part}_dropout": 0.0 for part in ("fusion", *MODALITIES, "sequence")}
    names = {"fusion": "logits"} | {modality: f"{modality}_logits" for modality in MODALITIES}
    for changed in (None, "fusion", *MODALITIES, "sequence"):
        model = small_model(**{**off, **({f"{changed}_dropout": 0.9} if changed else {})})
        batch = small_batch(model.config)
        with torch.no_grad():
            steady, torn = model(**batch), model.train()(**batch)
        differing = {task for task, name in names.items() if not torch.equal(steady[name], torn[name])}
        assert differing == {None: set(), "sequence": set(names)}.get(changed, {changed})

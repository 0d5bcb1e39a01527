"""Backbones of KerasHub: what is reached, removed equals silenced, files that need no KerasHub."""

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="KerasHub is not installed")

import hub_backbones
from composites_checks import (
    assert_close,
    foreign_modules,
    kept_entries,
    outputs_of,
    share_reached,
    silenced,
)
from hub_checks import composite, is_plain, read_elsewhere
from networks import randomize
from promises import random_plan

import prune_keras
from prune_keras.callbacks import ProgressivePruning

NAMES = ("Bert", "ViT", "MiT", "MobileNet", "EfficientNet", "HGNetV2", "DeiT", "GPT2", "Gemma")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unfolded", [False, True], ids=["in place", "unfolded"])
def test_removed_is_silenced(name, unfolded):
    each, x = composite(name, unfolded), hub_backbones.samples(name)
    model = each.build()
    before, plan = model.count_params(), random_plan(model, (0, 0.4))
    with silenced(model, kept_entries(each.build(), plan)):
        expected = outputs_of(model, x)
    prune_keras.shrink_in_place(model, plan)
    assert model.count_params() < before
    assert_close(outputs_of(model, x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_all_but_the_outputs_is_reached_once_it_is_unfolded(name):
    each = composite(name, unfolded=True)
    model = each.build()
    graph = prune_keras.trace(model)
    assert is_plain(model) and share_reached(each, graph, model) > 0.99
    reasons = {fixed.reason for fixed in graph.fixed}
    assert all("output of the model" in r or "rotates pairs" in r for r in reasons), reasons


@pytest.fixture(scope="module")
def thin_files(tmp_path_factory):
    """Prune each backbone; return name -> path, outputs here, and outputs elsewhere."""
    models = {}
    for name in NAMES:
        thin, _ = prune_keras.prune(hub_backbones.with_head(name), fraction=0.4)
        models[name] = thin if is_plain(thin) else prune_keras.unfold(thin, flat=True)
    read = read_elsewhere(models, tmp_path_factory.mktemp("thin"))
    here = {name: outputs_of(each, hub_backbones.samples(name)) for name, each in models.items()}
    return {name: (read[name][0], here[name], read[name][1]) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_thin_backbone_is_read_back_without_keras_hub(name, thin_files):
    path, here, elsewhere = thin_files[name]
    assert foreign_modules(path) == set()
    assert_close(elsewhere, here)


def test_what_a_reshape_of_mit_counts_stays_where_it_stands():
    graph = prune_keras.trace(hub_backbones.with_head("MiT"))
    reasons = {fixed.path: fixed.reason for fixed in graph.fixed}
    path = "hierarchical_encoder_1_0/seg_former_multihead_attention_1/dense_5"
    assert "SegFormerMultiheadAttention" in next(
        reason for known, reason in reasons.items() if known.startswith(path[:40])
    )


def test_stochastic_depth_becomes_a_dropout_of_samples():
    plain = prune_keras.unfold(hub_backbones.with_head("MiT"), flat=True)
    drops = [each for each in plain.layers if "drop_path" in each.name]
    assert [type(each) for each in drops] == [keras.layers.Dropout]  # the first block drops none
    assert drops[0].noise_shape == (None, 1, 1) and 0 < drops[0].rate < 1


def test_open_lengths_stay_open():
    plain = prune_keras.unfold(hub_backbones.with_head("GPT2"), flat=True)
    model = hub_backbones.with_head("GPT2")
    for length in (3, 11):
        x = {name: array[:, :1].repeat(length, 1) for name, array in SAMPLE.items()}
        assert_close(outputs_of(plain, x), outputs_of(model, x))


SAMPLE = hub_backbones.samples("GPT2")


# Generation with caches.


def causal_gemma():
    import keras_hub

    keras.utils.clear_session(free_memory=False)
    model = keras_hub.models.GemmaCausalLM(hub_backbones.backbone("Gemma"), preprocessor=None)
    randomize(model)
    model.compile(sampler="greedy", run_eagerly=True)
    return model


def generated(model):
    rng = np.random.default_rng(0)
    words = rng.integers(1, 50, (3, 12)).astype("int32")
    mask = np.array([[1] * given + [0] * (12 - given) for given in (5, 3, 4)], "int32")
    x = {"token_ids": words, "padding_mask": mask}
    return model.generate(x, stop_token_ids=None)["token_ids"]


def thin_gemma():
    model = causal_gemma()
    graph = prune_keras.trace(model)
    rng = np.random.default_rng(0)
    scores = {path: rng.uniform(size=width) for path, width in graph.widths.items()}
    return model, prune_keras.select(graph, scores, fraction=0.4, scope="uniform")


def test_generation_follows_a_cut_of_heads_and_neurons():
    model, plan = thin_gemma()
    original = generated(model)
    each = composite("Gemma")
    object.__setattr__(each, "build", causal_gemma)
    with silenced(model, kept_entries(each.build(), plan)):
        expected = generated(model)
    prune_keras.shrink_in_place(model, plan)
    backbone, attention = model.backbone, model.backbone.transformer_layers[0].attention
    heads = backbone.num_query_heads, backbone.num_key_value_heads
    assert heads == (attention.num_query_heads, attention.num_key_value_heads) == (6, 3)
    assert backbone.intermediate_dim == 16 and backbone.hidden_dim == 8
    np.testing.assert_array_equal(generated(model), expected)
    assert (expected != original).any()


def test_a_compiled_generation_is_made_anew():
    model, plan = thin_gemma()
    model.compile(sampler="greedy", jit_compile=False)
    before = generated(model)
    prune_keras.shrink_in_place(model, plan)
    thin = generated(model)
    model.compile(sampler="greedy", run_eagerly=True)
    np.testing.assert_array_equal(generated(model), thin)
    assert (thin != before).any()


def test_a_thin_language_model_keeps_its_class(tmp_path):
    model, plan = thin_gemma()
    prune_keras.shrink_in_place(model, plan)
    model.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras", compile=False)
    loaded.compile(sampler="greedy", run_eagerly=True)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(generated(loaded), generated(model))


def test_heads_stay_where_a_cache_would_not_follow():
    import keras_hub

    keras.utils.clear_session(free_memory=False)
    model = keras_hub.models.GPT2CausalLM(hub_backbones.backbone("GPT2"), preprocessor=None)
    randomize(model)
    graph = prune_keras.trace(model)
    kinds = {path.rpartition(":")[2] for path in graph.widths if ":" in path}
    assert not kinds & {"heads", "key", "value"}
    assert any("the cache of gpt2_causal_lm" in fixed.reason for fixed in graph.fixed)
    model.compile(sampler="greedy", run_eagerly=True)
    plan = random_plan(model, (0, 0.4))
    prune_keras.shrink_in_place(model, plan)
    assert generated(model).shape == (3, 12)


def test_fit_cuts_a_backbone():
    model, x = hub_backbones.with_head("ViT"), hub_backbones.samples("ViT")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pruning = ProgressivePruning(fraction=0.2, criterion="l2", target={"params": 0.7}, verbose=0)
    before = model.count_params()
    model.fit(x, np.array([0, 1]), epochs=3, verbose=0, callbacks=[pruning])
    assert model.count_params() < before and pruning.rounds

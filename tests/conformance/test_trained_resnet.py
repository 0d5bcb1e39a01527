"""A trained ResNet of option A on real images: what is silent can go, whatever its shortcuts pad.

What a plan removes is first made silent by the batch normalization behind it. Had the plan left out
a part of a neuron, that part would still be heard, and the predictions after the cut would differ.
"""

import keras
import numpy as np
import pytest
from networks import outputs_of

import prune_keras

pytestmark = pytest.mark.data

BEGINNINGS = {1: 0, 2: 8, 3: 8 + 16}  # where the first stage's channels lie in each stage


@pytest.fixture
def resnet(real_data):
    return keras.models.load_model(real_data / "cifar10_resnet20.keras", compile=False)


@pytest.fixture
def images(real_data):
    with np.load(real_data / "cifar10.npz") as arrays:
        return arrays["x_test"][:64].astype("float32"), arrays["y_test"][:64].reshape(-1)


def convolutions(model):
    return {la.name: la.filters for la in model.layers if isinstance(la, keras.layers.Conv2D)}


def silence(model, plan):
    """Let what a plan removes be zero after the batch normalization of its convolution."""
    for name, kept in plan.kept.items():
        normalization = model.get_layer(name.replace("conv", "bn"))
        for variable in (normalization.gamma, normalization.beta):
            variable.assign(np.array(variable) * np.isin(np.arange(variable.shape[0]), kept))


def check_what_is_silent_can_go(model, plan, x):
    (before,) = outputs_of(model, [x])
    silence(model, plan)
    (silent,) = outputs_of(model, [x])
    assert np.abs(silent - before).max() > 0.1
    thin = prune_keras.shrink(model, plan)
    prune_keras.shrink_in_place(model, plan)
    for each in (thin, model):
        assert convolutions(each) == {name: len(kept) for name, kept in plan.kept.items()}
        (found,) = outputs_of(each, [x])
        np.testing.assert_allclose(found, silent, atol=1e-5 * np.abs(silent).max())


def test_it_knows_the_images(resnet, images):
    (scores,) = outputs_of(resnet, [images[0]])
    assert np.mean(scores.argmax(axis=-1) == images[1]) > 0.85


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_silent_neurons_can_go(resnet, images, fraction):
    graph, rng = prune_keras.trace(resnet), np.random.default_rng(0)
    scores = {path: rng.uniform(size=width) for path, width in graph.widths.items()}
    plan = prune_keras.select(graph, scores, fraction=fraction)
    check_what_is_silent_can_go(resnet, plan, images[0])


@pytest.mark.parametrize("channel", [0, 15])
def test_every_convolution_can_come_down_to_one_channel(resnet, images, channel):
    widths = convolutions(resnet)
    stream = [name for name in widths if name == "conv1" or name.endswith("conv2")]
    kept = {name: [channel] for name in widths}
    for name in stream:
        stage = int(name[len("stage")]) if name != "conv1" else 1
        kept[name] = [BEGINNINGS[stage] + channel]
    check_what_is_silent_can_go(resnet, prune_keras.Plan(kept, widths), images[0])


def test_padded_channels_can_go_alone(resnet, images):
    """What the shortcuts pad with zeros is no channel of the stage before."""
    widths = convolutions(resnet)
    kept = {name: range(width) for name, width in widths.items()}
    for name in (name for name in widths if name.endswith("conv2")):
        stage = int(name[len("stage")])
        if stage > 1:
            start = BEGINNINGS[stage]
            kept[name] = range(start, start + 16)
    check_what_is_silent_can_go(resnet, prune_keras.Plan(kept, widths), images[0])

"""The networks against published and hand-computed sizes, in every precision."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.models import cifar10, precision

RANDOM = np.random.default_rng(0)

# Parameters and FLOPs (two a multiply-add), computed by hand.
STACK = [3 * 9 * 32 + 32, 32 * 9 * 32 + 32, 32 * 9 * 64 + 64, 64 * 9 * 64 + 64]
STACK_PARAMS = sum(STACK) + 2304 * 512 + 512 + 512 * 10 + 10
STACK_MULTIPLY_ADDS = (
    27 * 32 * 32**2 + 288 * 32 * 30**2 + 288 * 64 * 15**2 + 576 * 64 * 13**2 + 2304 * 512 + 5120
)


def test_stack_has_the_size_that_its_layers_add_up_to():
    cost = prune_keras.cost(cifar10.stack())
    assert (cost.params, cost.flops) == (STACK_PARAMS, 2 * STACK_MULTIPLY_ADDS)
    assert cost.neurons == 32 + 32 + 64 + 64 + 512
    assert STACK_PARAMS == 1_250_858


def test_batch_norm_stack_trades_biases_for_four_numbers_a_channel():
    plain, normalized = cifar10.stack().count_params(), cifar10.batch_norm_stack().count_params()
    assert normalized - plain == (4 - 1) * (32 + 32 + 64 + 64 + 512)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (56, 0.85)])
def test_resnet_has_the_published_parameters(depth, millions):
    model = cifar10.resnet(depth)
    trained = sum(np.prod(weight.shape) for weight in model.trainable_weights)
    assert trained / 1e6 == pytest.approx(millions, rel=0.02)


def test_resnet20_has_the_published_multiply_adds():
    cost = prune_keras.cost(cifar10.resnet(20))
    assert cost.flops // 2 == 27 * 16 * 1024 + 13824 * 1024 + 50688 * 256 + 202752 * 64 + 640
    assert round(cost.flops / 2e6) == 41


def test_projections_add_a_convolution_and_a_batch_normalization_a_stage():
    padded, projected = cifar10.resnet(20).count_params(), cifar10.resnet(20, "B").count_params()
    assert projected - padded == 16 * 32 + 4 * 32 + 32 * 64 + 4 * 64


@pytest.mark.parametrize("name", ["stack", "batch-norm-stack", "resnet8", "resnet8-b"])
@pytest.mark.parametrize("number_type", precision.PRECISIONS)
def test_networks_give_float32_probabilities(name, number_type):
    before = keras.config.dtype_policy()
    model = cifar10.build(name, number_type)
    outputs = model(RANDOM.integers(0, 256, (2, 32, 32, 3)).astype("uint8"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs).sum(axis=1), 1, rtol=1e-5)
    assert keras.config.dtype_policy() == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cifar10.resnet(21), "6n \\+ 2. Received: depth=21"),
        (lambda: cifar10.resnet(2), "6n \\+ 2. Received: depth=2"),
        (lambda: cifar10.resnet(20, "C"), "Received: shortcut='C'"),
        (lambda: cifar10.resnet(8, filters=(8, 4, 4)), "Received: filters=\\(8, 4, 4\\)"),
        (lambda: cifar10.stack((8, 8, 8)), "in pairs. Received: filters=\\(8, 8, 8\\)"),
        (lambda: cifar10.stack(precision="float8"), "Received: precision='float8'"),
        (lambda: cifar10.build("vgg"), "stack, batch-norm-stack, .* Received: model='vgg'"),
        (lambda: cifar10.build("resnet21"), "Received: depth=21"),
        (lambda: cifar10.build("missing.keras"), "Received: model='missing.keras'"),
        (lambda: cifar10.settings(optimizer="adm"), "adam, sgd. Received: optimizer='adm'"),
        (lambda: cifar10.settings(epochs=3, fine_tune_epochs=3), "Received: epochs=3"),
    ],
)
def test_what_is_not_there_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_file_can_be_pruned_in_another_precision(tmp_path):
    model = cifar10.resnet(8)
    model.save(tmp_path / "model.keras")
    pixels = RANDOM.integers(0, 256, (4, 32, 32, 3))
    mixed = cifar10.build(str(tmp_path / "model.keras"), "mixed_bfloat16")
    assert mixed.get_layer("stem").compute_dtype == "bfloat16"
    assert mixed.get_layer("stem").kernel.dtype == "float32"
    assert mixed.get_layer("classes").compute_dtype == "float32"
    found, wanted = (keras.ops.convert_to_numpy(each(pixels)) for each in (mixed, model))
    np.testing.assert_allclose(found, wanted, atol=0.05)

"""Export: read back and compared before it is called done; what a format cannot hold is named."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

import prune_keras


def network(policy="float32"):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, dtype=policy)(inputs)
    x = keras.layers.BatchNormalization(dtype=policy)(x)
    x = keras.layers.Dropout(0.5, dtype=policy)(keras.layers.Flatten(dtype=policy)(x))
    return keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(x))


@pytest.mark.repeats(2)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_plain_keras_reads_it_back_in_a_process_of_its_own(tmp_path, suffix, policy):
    model = network(policy)
    path = prune_keras.export(model, tmp_path / f"deep/model{suffix}")
    x = np.random.default_rng(0).uniform(size=(3, 8, 8, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys, keras, numpy as np\n"
        f"model = keras.models.load_model({str(path)!r}, compile=False)\n"
        f"y = model(np.load({str(tmp_path / 'x.npy')!r}))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, keras.ops.convert_to_numpy(y))\n"
        "assert 'prune_keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    expected = keras.ops.convert_to_numpy(model(x))
    close = 1e-2 if "mixed" in policy else 1e-5
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=close, rtol=close)


def test_optimizer_state_stays_out_and_the_model_stays_compiled(tmp_path):
    model = network()
    model.compile("adam", "mse")
    for suffix in (".h5", ".keras"):
        path = prune_keras.export(model, tmp_path / f"model{suffix}")
        assert not keras.models.load_model(path).compiled
    assert model.compiled
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert model.get_compile_config()["loss"] == "mse"


def test_a_raw_operation_in_h5_is_named_with_the_format_that_can(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)[:, ::2]
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    (tmp_path / "model.h5").write_text("older")
    with pytest.raises(ValueError, match=r"raw operation 'get_item.*ends in \.keras"):
        prune_keras.export(model, tmp_path / "model.h5")
    assert (tmp_path / "model.h5").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["model.h5"]
    prune_keras.export(model, tmp_path / "model.keras")


def test_a_layer_that_h5_cannot_name_is_named(tmp_path):
    inputs = keras.Input((8,))
    x = CustomScaleLayer(0.1, name="sum")([inputs, keras.layers.Dense(8, name="dense")(inputs)])
    model = keras.Model(inputs, x)
    with pytest.raises(ValueError, match=r"layer 'sum' of .*Unknown layer.*ends in \.keras"):
        prune_keras.export(model, tmp_path / "model.h5")
    prune_keras.export(model, tmp_path / "model.keras")


class Forgetful(keras.layers.Layer):
    """Adds a number that its config does not hold, in a way that cannot be looked into."""

    def __init__(self, number=0.0, **kwargs):
        super().__init__(**kwargs)
        self.number = number

    def call(self, x):
        return x + self.number + 0.0 * keras.random.normal(keras.ops.shape(x))

    def get_config(self):
        return {"name": self.name}


def test_a_layer_with_an_incomplete_config_is_found_out(tmp_path):
    keras.saving.register_keras_serializable()(Forgetful)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Forgetful(1.0)(inputs))
    with pytest.raises(ValueError, match=r"outputs of .* that differ by 1 after reading"):
        prune_keras.export(model, tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["model", "model.hdf5", "model.pb"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end as its format does: \.h5 for h5, \.keras"):
        prune_keras.export(network(), tmp_path / name)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_files_hold_no_optimizer_state_and_the_model_keeps_its_own(tmp_path, suffix):
    keras.utils.set_random_seed(0)
    model = network()
    plain = prune_keras.export(model, tmp_path / f"plain{suffix}").stat().st_size
    model.compile("adam", "mse")
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 2)), verbose=0)
    optimizer, before = model.optimizer, int(model.optimizer.iterations.value)
    trained = prune_keras.export(model, tmp_path / f"trained{suffix}").stat().st_size
    assert trained < 1.1 * plain
    assert model.optimizer is optimizer and int(optimizer.iterations.value) == before == 1
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 2)), verbose=0)
    assert int(optimizer.iterations.value) == 2

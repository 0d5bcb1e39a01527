"""Files of strangers: what runs code when it is read is refused, in both formats."""

from importlib.metadata import version

import keras
import pytest

from prune_keras.models.networks import read_model

RAN = []


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_code_in_a_file_is_not_run(tmp_path, suffix):
    code = keras.layers.Lambda(lambda x: __import__("test_strangers_files").RAN.append(1) or x)
    model = keras.Sequential([keras.Input((3,)), code, keras.layers.Dense(2)])
    model.save(tmp_path / f"model.{suffix}")
    RAN.clear()
    with pytest.raises(ValueError, match="Received: model=.*Lambda"):
        read_model(tmp_path / f"model.{suffix}")
    assert not RAN
    keras.models.load_model(tmp_path / f"model.{suffix}", compile=False, safe_mode=False)
    assert RAN  # it would have been


def test_keras_is_one_without_known_holes():
    assert tuple(map(int, version("keras").split(".")[:2])) >= (3, 15)

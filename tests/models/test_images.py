"""Data from files and packages, how it is split, and what augmentation does to it."""

import numpy as np
import pytest

from prune_keras.models import cifar10, digits, images

RANDOM = np.random.default_rng(0)


def arrays(**changes):
    """Return a small data set as it lies in a file."""
    x = RANDOM.integers(0, 256, (20, 32, 32, 3)).astype("uint8")
    y = RANDOM.integers(0, 10, 20)
    return {"x_train": x, "y_train": y[:, None], "x_test": x[:5], "y_test": y[:5]} | changes


def test_data_is_split_without_losing_or_doubling_an_image(tmp_path, monkeypatch):
    stored = arrays(y_train=np.arange(20), y_test=np.arange(5))
    np.savez(tmp_path / "cifar10.npz", **stored)
    monkeypatch.setenv("PRUNE_KERAS_DATA", str(tmp_path))
    data = cifar10.load_data()
    assert [len(x) for x, _ in data] == [18, 2, 5]
    parts = np.concatenate([data.train[1], data.validation[1]])
    assert sorted(parts) == list(range(20)) and list(parts) != list(range(20))
    np.testing.assert_array_equal(data.train[0], stored["x_train"][data.train[1]])
    np.testing.assert_array_equal(cifar10.load_data().train[1], data.train[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((20, 3072), "uint8")}, "Received: x_train of shape \\(20, 3072\\)"),
        ({"y_train": np.zeros(19, int)}, "Received: y_train of shape \\(19,\\)"),
        ({"y_test": np.zeros(5)}, "y_test of shape \\(5,\\) and type float64"),
        ({"x_test": np.full((5, 32, 32, 3), np.nan)}, "x_test with NaN"),
        ({"x_test": np.zeros((0, 32, 32, 3)), "y_test": np.zeros(0, int)}, "x_test of shape \\(0"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, changes, message):
    np.savez(tmp_path / "data.npz", **arrays(**changes))
    with pytest.raises(ValueError, match=message):
        cifar10.load_data(tmp_path / "data.npz")


def test_files_that_hold_something_else_are_named(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("no arrays")
    for name in ("images.npz", "array.npy", "text.npz", "missing.npz"):
        with pytest.raises(ValueError, match=f"must be an .npz file .* Received: path='.*{name}'"):
            cifar10.load_data(tmp_path / name)


def test_batches_hold_every_image_once_an_epoch_in_a_new_order():
    batches = images.Batches(np.zeros((50, 8, 8, 1)), np.arange(50), batch_size=16)
    first = np.concatenate([batches[i][1] for i in range(len(batches))])
    batches.on_epoch_end()
    second = np.concatenate([batches[i][1] for i in range(len(batches))])
    assert sorted(first) == sorted(second) == list(range(50))
    assert list(first) != list(second)


def test_batches_only_flip_and_shift():
    image = RANDOM.integers(1, 256, (1, 6, 6, 3)).astype("uint8")
    padded = np.pad(image[0], [(2, 2), (2, 2), (0, 0)])
    shifted = [padded[y : y + 6, x : x + 6] for y in range(5) for x in range(5)]
    possible = {view.tobytes() for view in shifted} | {v[:, ::-1].tobytes() for v in shifted}
    batches = images.Batches(np.repeat(image, 200, axis=0), np.zeros(200, int), 200, shift=2)
    seen = {view.tobytes() for view in batches[0][0]}
    assert seen <= possible and len(seen) > 25
    np.testing.assert_array_equal(batches[0][0], batches[0][0])


def test_digits_are_whole_and_in_range():
    data = digits.load_data()
    assert [len(labels) for _, labels in data] == [997, 400, 400]
    assert max(pixels.max() for pixels, _ in data) == 255
    assert all(set(labels) == set(range(10)) for _, labels in data)

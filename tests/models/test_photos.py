"""Photos from folders: both layouts, broken files, and parts that lack a class."""

import keras
import numpy as np
import pytest

from prune_keras.models import photos

pytest.importorskip("tensorflow")  # with which Keras reads folders of images


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.save_img(path, np.full((6, 8, 3), value, "uint8"), scale=False)


def write_folders(folder, values=(40, 200), count=3):
    for part in photos.PARTS:
        for value, name in zip(values, photos.CLASSES, strict=True):
            for i in range(count):
                write(folder / part / name / f"{i}.png", value + i)


def test_folders_are_read_with_their_labels(tmp_path):
    write_folders(tmp_path)
    data = photos.load_data(tmp_path, image_size=4)
    for images, labels in data:
        assert images.shape == (6, 4, 4, 3) and images.dtype == "uint8"
        np.testing.assert_array_equal(labels, images[:, 0, 0, 0] >= 200)
        assert sorted(images[:, 0, 0, 0]) == [40, 41, 42, 200, 201, 202]
    assert list(data.train[1]) != sorted(data.train[1])


@pytest.mark.parametrize("below", ["", "train"])
def test_kaggle_names_are_split_without_losing_or_doubling_a_photo(tmp_path, below):
    for i in range(20):
        write(tmp_path / below / f"cat.{i}.png", i)
        write(tmp_path / below / f"dog.{i}.png", 100 + i)
    data = photos.load_data(tmp_path, image_size=4)
    assert [len(labels) for _, labels in data] == [32, 4, 4]
    values = np.concatenate([images[:, 0, 0, 0] for images, _ in data])
    assert sorted(values) == [*range(20), *range(100, 120)]
    for images, labels in data:
        np.testing.assert_array_equal(labels, images[:, 0, 0, 0] >= 100)


def test_broken_files_are_named_and_left_out(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "train" / "cats" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (tmp_path / "train" / "dogs" / "empty.jpg").write_bytes(b"")
    (tmp_path / "train" / "dogs" / "Thumbs.db").write_bytes(b"not looked at")
    with pytest.warns(UserWarning, match="2 files hold no image .*broken.jpg, .*empty.jpg"):
        data = photos.load_data(tmp_path, image_size=4)
    assert len(data.train[1]) == 6


def test_a_part_without_a_class_is_named(tmp_path):
    write_folders(tmp_path)
    for path in (tmp_path / "validation" / "dogs").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no photo of dogs for validation"):
        photos.load_data(tmp_path)
    with pytest.raises(ValueError, match="no photo of cats for train"):
        photos.load_data(tmp_path / "validation")


def test_a_missing_folder_says_what_to_get(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNE_KERAS_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="'.*cats_vs_dogs', which is not there.*--data"):
        photos.load_data()
    monkeypatch.delenv("PRUNE_KERAS_DATA")
    with pytest.raises(ValueError, match="Received: none. Get Kaggle's Dogs vs. Cats"):
        photos.load_data()

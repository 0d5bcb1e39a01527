"""A folder of a run is gone on with only by the same data, networks, weights and settings."""

import json
import shutil

import keras
import numpy as np
import pytest

from prune_keras import schedules
from prune_keras.models import comparison, images, origins, runs

LAYERS = keras.layers


def data(part=None, place=0, change=1):
    """Return images at random; of one array of one part, an entry differs."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 60), ("validation", 20), ("test", 20)):
        pixels = random.integers(0, 200, (count, 6, 6, 1)).astype("uint8")
        arrays[name] = (pixels, random.integers(0, 2, count))
    if part is not None:
        arrays[part][place].reshape(-1)[7] += change
    return images.Data(**arrays)


def builder(width=6, activation="relu", given=None, name="c"):
    """Return a function that builds a network, with names that Keras makes up among others."""

    def build():
        layers = [LAYERS.Rescaling(1 / 255), LAYERS.Conv2D(width, 3, name=name), LAYERS.Flatten()]
        head = [LAYERS.Dense(8, activation), LAYERS.Dense(2, "softmax")]
        model = keras.Sequential([keras.Input((6, 6, 1)), *layers, *head])
        if given is not None:
            kernel, bias = model.get_layer(name).get_weights()
            model.get_layer(name).set_weights([np.full_like(kernel, given), bias])
        return model

    return build


def settings(**changes):
    chosen = {"model": "m", "epochs": 2, "fine_tune_epochs": 1, "dense_epochs": 1, "shift": 0}
    chosen |= {"batch_size": 30, "samples": 30, "verbose": 0, "flip": False}
    chosen |= {"pruning": {"target": {"params": 0.7}, "fraction": 0.3, "exclude": ("c",)}}
    return runs.Settings(**chosen | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that came to its end; its builder brings the weights of a layer."""
    folder = tmp_path_factory.mktemp("run") / "finished"
    runs.run(builder(given=0.5), data(), settings(), folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def held(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def networks(folder):
    return [(folder / f"{name}.keras").read_bytes() for name in ("dense", "pruned")]


CHANGES = {
    "train images": {"data": data("train")},
    "train labels": {"data": data("train", 1)},
    "validation labels": {"data": data("validation", 1)},
    "test images": {"data": data("test")},
    "854 parameters.*1,130 parameters": {"build": builder(width=8, given=0.5)},
    "network": {"build": builder(activation="tanh", given=0.5)},
    "'network'": {"build": builder(name="d", given=0.5)},
    "given weights": {"build": builder(given=0.25)},
    "'given weights'": {"build": builder()},
    "'seed': 0.*'seed': 1": {"settings": settings(seed=1)},
    "dense.keras .*batch_size": {"settings": settings(batch_size=20)},
    "dense_epochs": {"settings": settings(dense_epochs=2)},
    "shift": {"settings": settings(shift=1)},
    "dense_learning_rate": {"settings": settings(dense_learning_rate=0.1)},
    "pruned.keras .*epochs": {"settings": settings(epochs=3)},
    "'learning_rate'": {"settings": settings(learning_rate=0.1)},
    "fine_tune_epochs": {"settings": settings(fine_tune_epochs=0)},
    "samples": {"settings": settings(samples=40)},
    r"\{'pruning': \{'exclude': \['c'\]\}\}, but now is \{'pruning': \{\}\}": {
        "settings": settings(pruning={"target": {"params": 0.7}, "fraction": 0.3})
    },
}


def test_a_network_that_nothing_can_build_again_is_never_deleted(folder):
    before = (folder / "dense.keras").read_bytes()
    with pytest.raises(ValueError, match=r"build=None with output='.*run'.*Pass a function"):
        runs.run(None, data("train"), settings(), folder, overwrite=True)
    assert (folder / "dense.keras").read_bytes() == before


def run(folder, overwrite=False, **changes):
    chosen = {"build": builder(given=0.5), "data": data(), "settings": settings()} | changes
    return runs.run(**chosen, output=folder, overwrite=overwrite)


@pytest.mark.repeats(4)
@pytest.mark.parametrize("message", CHANGES)
def test_what_was_made_otherwise_is_refused_and_stays(folder, message):
    before = held(folder)
    with pytest.raises(ValueError, match=f"Received: output='.*run'.*{message}.*--overwrite"):
        run(folder, **CHANGES[message])
    assert held(folder) == before


@pytest.mark.repeats(2)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"settings": settings(verbose=1, validation_batch_size=10)},
        {"build": None},
        {"data": data()._replace(test=tuple(np.asfortranarray(a) for a in data().test))},
    ],
)
def test_the_same_run_is_gone_on_with(folder, changes, monkeypatch):
    LAYERS.Flatten(), LAYERS.Dense(3)  # so that Keras makes up other names
    monkeypatch.setattr(runs, "fit", None)
    before, record = networks(folder), (folder / "dense.json").read_bytes()
    run(folder, **changes)
    run(folder)
    assert networks(folder) == before and (folder / "dense.json").read_bytes() == record


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("dense.keras", lambda file: shutil.copy(file.with_name("pruned.keras"), file)),
        ("pruned.csv", lambda file: file.write_text(file.read_text()[:-30])),
        ("dense.csv", lambda file: file.unlink()),
        ("report.txt", lambda file: file.unlink()),
        ("dense.json", lambda file: file.write_text(file.read_text()[:50])),
        ("pruned.json", lambda file: file.write_text("[]")),
        ("pruned.json", lambda file: file.unlink()),
    ],
)
def test_what_was_damaged_is_named_and_stays(folder, name, spoil):
    spoil(folder / name)
    before = held(folder)
    with pytest.raises(ValueError, match=f"Received: .*{name}.*Choose another folder"):
        run(folder)
    assert held(folder) == before


def test_only_what_was_made_otherwise_is_overwritten(folder):
    dense, pruned = networks(folder)
    run(folder, overwrite=True, settings=settings(samples=40))
    after = networks(folder)
    assert after[0] == dense and after[1] != pruned
    (folder / "dense.csv").unlink()
    rows = run(folder, overwrite=True, settings=settings(seed=3)).rows
    assert networks(folder)[0] != dense and networks(folder)[1] != after[1]
    assert [row["epochs"] for row in rows] == [1, 2]


def test_a_run_goes_on_after_its_last_finished_network(folder, monkeypatch):
    """Also where it was killed before that was written down, or `settings.json` is damaged."""
    (folder / "settings.json").write_text("{")
    for name in ("dense", "pruned"):
        record = json.loads((folder / f"{name}.json").read_text())
        del record["files"]
        (folder / f"{name}.json").write_text(json.dumps(record))
    dense, pruned = networks(folder)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "fit", None)
        run(folder)
    assert networks(folder) == [dense, pruned]
    assert "files" in json.loads((folder / "pruned.json").read_text())
    (folder / "pruned.keras").unlink()
    rows = run(folder, settings=settings(samples=40)).rows  # nothing finished is lost
    assert networks(folder)[0] == dense and len(rows) == 2


def test_schedules_and_functions_are_told_apart(tmp_path):
    def origin(**pruning):
        return origins.of_network({}, {}, settings(pruning=pruning), tmp_path, "pruned").made_of

    bound = 3
    kinds = [
        {"schedule": schedules.OneShot()},
        {"schedule": schedules.Geometric(5)},
        {"schedule": schedules.Geometric(6)},
        {"criterion": lambda kernel: kernel + 1},
        {"criterion": lambda kernel: kernel + 2},
        {"criterion": lambda kernel: kernel + bound},
    ]
    texts = [json.dumps(origin(**kind)) for kind in kinds]
    assert len(set(texts)) == len(kinds)
    assert texts == [json.dumps(origin(**kind)) for kind in kinds]


def test_a_run_needs_a_network(tmp_path):
    with pytest.raises(ValueError, match="Received: build=None, while '.*' holds no dense.keras"):
        run(tmp_path / "new", build=None)
    assert not (tmp_path / "new").exists()


def test_ways_begin_with_one_dense_network(tmp_path):
    for name, content in (("first", b"one"), ("second", b"two")):
        (tmp_path / name).mkdir()
        for file in comparison.DENSE:
            (tmp_path / name / file).write_bytes(content)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    with pytest.raises(ValueError, match="one dense network. Received: '.*second' with another"):
        comparison._share_dense(first, second, overwrite=False)
    assert (second / "dense.keras").read_bytes() == b"two"
    comparison._share_dense(first, third, overwrite=False)
    comparison._share_dense(first, second, overwrite=True)
    assert held(second) == held(third) == held(first)

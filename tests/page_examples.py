"""What the examples of README.md and docs/ find: a small trained model, its data, no network.

Each page begins in an empty folder with `model.keras` and `samples.npz`, and with the names that
`world` returns; what it defines is there in all blocks that follow.
"""

import doctest
import re
import textwrap

import keras
import numpy as np

BLOCK = re.compile(r"^( *)```(?:python|pycon)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PRETRAINED = ("VGG16", "ResNet50", "MobileNetV2")


def world(monkeypatch):
    """Return names of a page -> values: a compiled classifier of four classes, and its data."""
    _draw_pretrained_weights(monkeypatch)
    keras.utils.set_random_seed(0)
    names = {"__name__": "page", "model": _classifier()}
    for part, count in {"train": 64, "val": 32, "test": 32}.items():
        classes = np.arange(count) % 4
        images = np.random.rand(count, 16, 16, 3) + 0.2 * classes[:, None, None, None]
        names[f"x_{part}"], names[f"y_{part}"] = images.astype("float32"), classes
    names["model"].save("model.keras")
    np.savez("samples.npz", x_train=names["x_train"], y_train=names["y_train"])
    keras.utils.clear_session()  # layers that a page does not name are numbered from zero
    return names


def run(page, names):
    """Run the blocks of a page in their order; what they print must be what a prompt shows."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        code, before = textwrap.dedent(block[2]), text.count("\n", 0, block.start(2))
        if ">>> " in code:
            test = doctest.DocTestParser().get_doctest(code, {}, page.stem, str(page), before)
            test.globs = names
            assert doctest.DocTestRunner(optionflags=FLAGS).run(test, clear_globs=False).failed == 0
        else:
            exec(compile("\n" * before + code, str(page), "exec"), names)  # noqa: S102


def _classifier():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(8, 3, strides=2, name="conv1"),
            keras.layers.BatchNormalization(name="norm1"),
            keras.layers.ReLU(),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="conv2"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(4, activation="softmax", name="scores"),
        ],
        name="classifier",
    )
    # Run eagerly, as each cut would have functions made anew that run for two batches.
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    model.optimizer.build(model.trainable_variables)  # as of a model that was trained
    return model


def _draw_pretrained_weights(monkeypatch):
    """Let networks of keras.applications, whose weights lie elsewhere, have random ones."""
    for name in PRETRAINED:
        build = getattr(keras.applications, name)
        monkeypatch.setattr(
            keras.applications,
            name,
            lambda *args, build=build, weights=None, **options: build(
                *args, weights=None, **options
            ),
        )

"""What the evidence on scores is about: trained networks, and the samples they are scored on."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import measuring  # noqa: E402

from prune_keras.models import images  # noqa: E402

RESULTS = Path(__file__).resolve().parent.parent / "results" / "scores"
SCORED = 2048  # training images that criteria see
# What `fit` went by where tables were made before it took `obs` with `optimal` by itself.
FUSED = {"criterion": "mean(taylor, reconstruction)", "scope": "global", "fuse": "weights"}
JUDGED = 1024  # validation images that losses of single neurons are measured on


def add_arguments(parser):
    """Add the places of data and networks to a command line."""
    data = os.environ.get("PRUNE_KERAS_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--stack", type=Path, help="dense.keras of prune-keras cifar10")
    parser.add_argument("--networks", nargs="+", default=["stack", "resnet20"])
    parser.add_argument("--output", type=Path, default=RESULTS)


def load(name, arguments):
    """Return a trained network, compiled for classification in float32."""
    keras.utils.set_random_seed(measuring.SEED)
    if name == "vgg16":
        weights = str(arguments.data / "vgg16_notop.h5")
        return keras.applications.VGG16(False, weights, input_shape=(128, 128, 3))
    file = arguments.stack if name == "stack" else arguments.data / "cifar10_resnet20.keras"
    model = keras.models.load_model(file, compile=False)
    keras.config.set_dtype_policy("float32")
    last = model.layers[-1]
    logits = getattr(last, "activation", None) is not keras.activations.softmax
    logits = logits and not isinstance(last, keras.layers.Softmax)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(logits), metrics=["accuracy"])
    return model


def cifar10(arguments):
    """Return the three splits of CIFAR-10."""
    return images.split(*images.read_npz(arguments.data / "cifar10.npz"))


def first(pair, count):
    return tuple(array[:count] for array in pair)


def accuracy(model, pair):
    size = 500 if pair[0].shape[1] <= 32 else 50
    return float(model.evaluate(*pair, batch_size=size, verbose=0, return_dict=True)["accuracy"])


def write(path, rows, **settings):
    """Write rows as CSV, and beside them what they were measured with and more settings."""
    measuring.write_table(path, rows)
    measuring.write_settings(path, scored=SCORED, judged=JUDGED, **settings)

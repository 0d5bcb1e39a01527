"""How sparse a network may get at equal accuracy, by the penalty that it was trained with.

    python benchmarks/equal_accuracy.py

LeNet-300-100 (LeCun et al., 1998), as Tartaglione et al. (2018) take it, on scikit-learn's digits:
trained plainly, with L2 or L1 of the kernels, and by both forms of sensitivity, each at several
strengths, for as many epochs by the same batches. Then weights of the lowest magnitude in the
network are set to zero (`weight`), or neurons of the lowest norm are cut (`unit`), nothing is
repaired, and the largest share is looked for that leaves at most a point of validation accuracy
less than plain training, uncut. The strength of a way is that of the largest share, on average over
seeds; only there the test images are looked at, once a seed.
"""

import argparse
from pathlib import Path

import keras
import measuring
import numpy as np
import subjects
import tables

import prune_keras
from prune_keras.callbacks import SensitivityRegularization
from prune_keras.models import digits

RESULTS = subjects.RESULTS.parent / "training"
PENALTIES = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
WAYS = {
    "weight": ("plain", "l2", "l1", "unspecific", "specific"),
    "unit": ("plain", "l2", "l1", "unspecific by unit", "specific by unit"),
}
SHARES = [0.0, *np.arange(0.1, 0.95, 0.05).round(2).tolist(), 0.95, 0.96, 0.97, 0.98, 0.99]
POINT = 0.01
BATCH, RATE = 32, 0.1
REFRESH = 10  # steps after which sensitivities are measured anew


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    searched, ended = [], []
    for cut, ways in WAYS.items():
        bounds = {seed: bound(seed, given.epochs) for seed in given.seeds}
        for way in ways:
            found = [
                {"cut": cut, "way": way, "strength": strength, **tried}
                for strength in ((0.0,) if way == "plain" else STRENGTHS)
                for tried in tries(cut, way, strength, bounds, given.epochs)
            ]
            searched += [{k: v for k, v in row.items() if k != "model"} for row in found]
            ended += [tested(row) for row in best(found)]
            measuring.write_table(given.output / "equal_accuracy_search.csv", searched)
            measuring.write_table(given.output / "equal_accuracy.csv", ended)
    measuring.write_settings(given.output / "equal_accuracy.json", epochs=given.epochs)


def bound(seed, epochs):
    """Return the least validation accuracy."""
    return accuracy(trained("plain", 0.0, seed, epochs), split(seed).validation) - POINT


def tries(cut, way, strength, bounds, epochs):
    """Yield a row a seed: the largest share that holds the bound, and the network cut so."""
    for seed, least in bounds.items():
        model = trained(way, strength, seed, epochs)
        uncut = accuracy(model, split(seed).validation)
        share, thin, left = 0.0, model, uncut
        for each in SHARES[1:]:
            smaller = CUTS[cut](model, each)
            found = accuracy(smaller, split(seed).validation)
            if found >= least:
                share, thin, left = each, smaller, found
        row = {"seed": seed, "share": share, "uncut": uncut, "validation": left, "model": thin}
        yield row | {"holds": left >= least}


def best(rows):
    """Return the rows of the strength whose share is the largest, among those that hold."""
    by_strength = {}
    for row in rows:
        by_strength.setdefault(row["strength"], []).append(row)
    return max(
        by_strength.values(),
        key=lambda found: (all(r["holds"] for r in found), np.mean([r["share"] for r in found])),
    )


def tested(row):
    row = dict(row)
    model = row.pop("model")
    return row | {
        "test": accuracy(model, split(row["seed"]).test),
        "device": measuring.settings()["processor"],
    }


def zeroed(model, share):
    thin = keras.models.clone_model(model)
    thin.set_weights(model.get_weights())
    prune_keras.sparsify(thin, share, "global", ["first", "second"])
    return thin


def cut(model, share):
    lowest = {"criterion": "l2", "debias": "mean", "scope": "global", "fuse": None}
    return prune_keras.prune(model, fraction=share, **lowest)[0]


CUTS = {"weight": zeroed, "unit": cut}


def trained(way, strength, seed, epochs):
    """Return a network that was trained in one way."""
    keras.utils.set_random_seed(seed)
    penalty = PENALTIES[way](strength) if way in PENALTIES else None
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(300, "relu", kernel_regularizer=penalty, name="first"),
            keras.layers.Dense(100, "relu", kernel_regularizer=penalty, name="second"),
            keras.layers.Dense(10, "softmax", name="classes"),
        ]
    )
    form, _, unit = way.partition(" by ")
    callbacks = []
    if form.endswith("specific"):
        granularity = unit or "weight"
        how = {"layers": ["first", "second"], "refresh_steps": REFRESH}
        callbacks = [SensitivityRegularization(strength, form, granularity, **how)]
    model.compile(keras.optimizers.SGD(RATE), "sparse_categorical_crossentropy")
    options = {"batch_size": BATCH, "epochs": epochs, "verbose": 0}
    model.fit(*split(seed).train, callbacks=callbacks, **options)
    return model


def split(seed):
    """Return the digits as vectors of pixels from zero to one, split by a seed."""
    parts = digits.load_data(seed)
    return parts._make((images.reshape(-1, 64) / 255.0, labels) for images, labels in parts)


def accuracy(model, pair):
    images, labels = pair
    told = keras.ops.convert_to_numpy(model(images, training=False))
    return round(float(np.mean(told.argmax(axis=-1) == labels)), 4)


def table(rows, cut):
    """Return a line for each way, with the means over seeds."""
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows if row["cut"] == cut):
        own = [row for row in rows if (row["cut"], row["way"]) == (cut, way)]
        cells = (span(own, name) for name in ("uncut", "share", "validation", "test"))
        lines.append([way, f"{float(own[0]['strength']):g}", *cells])
    heads = ["trained with", "strength", "validation, uncut", "may go", "validation", "test"]
    return tables.markdown(heads, lines)


def span(rows, name):
    """Return the mean of shares in percent, and where they lie."""
    values = [float(row[name]) for row in rows]
    low, high = (tables.percent(end(values), 1) for end in (min, max))
    return f"{tables.percent(np.mean(values), 1)} ({low} to {high})"


if __name__ == "__main__":
    main()

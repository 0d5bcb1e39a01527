"""What is left of a transformer once half of its heads and feed-forward units are gone, untrained.

    python benchmarks/untrained_transformer.py

An encoder of Keras' layers, as KerasHub's are (two blocks, each of attention with 8 heads of 8 and
a feed-forward layer of 256 units, normalization before them), reads scikit-learn's digits as 8 rows
of pixels, and learns on 997 of them for 40 epochs, with each of three seeds. Then half of the heads
and half of the feed-forward units of each block go, or half of the FLOPs, wherever they are, and
nothing is trained. Scores and repair look at the 997 digits. Rows are written as they are measured.
"""

import argparse
import datetime
import time
from pathlib import Path

import keras
import measuring
import numpy as np
import subjects
import tables

import prune_keras
from prune_keras.models import digits

WIDTH, HEADS, UNITS, BLOCKS, EPOCHS = 64, 8, 256, 2, 40
TWO = "mean(taylor, reconstruction)"
KEYS = ("seed", "cut", "criterion", "repair")
# The cut: half of each family but the stream and what is inside a head; or all families alike.
STREAM = ["embedding", "attention?", "out?", "*:value", "*:key"]
CUTS = {
    "heads and units": {"fraction": 0.5, "scope": "uniform", "exclude": STREAM},
    "all, global": {"target": {"flops": 0.5}, "scope": "global"},
    "all, optimal": {"target": {"flops": 0.5}, "scope": "optimal"},
}
WAYS = (
    *(("heads and units", criterion) for criterion in (TWO, "obs", "l2")),
    ("all, global", TWO),
    ("all, optimal", "obs"),
)
REPAIRS = {"none": None, "weights": "weights", "sequential": "sequential"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=subjects.RESULTS.parent / "untrained")
    arguments = parser.parse_args()
    path = arguments.output / "transformer.csv"
    rows = tables.read(path)
    known = {tuple(row[key] for key in KEYS) for row in rows}
    for seed in arguments.seeds:
        wanted = [(str(seed), *each) for each in ways() if (str(seed), *each) not in known]
        data = sequences(digits.load_data(seed))
        model = trained(data, seed) if wanted else None
        for key in wanted:
            rows.append(row_of(model, data, key))
            print(rows[-1], flush=True)
            subjects.write(path, rows)


def ways():
    """Yield cut, criterion and repair, the network as it is at first."""
    yield "none", "", ""
    for place, way in enumerate(WAYS):
        for repair in REPAIRS if place == 0 else ("none", "sequential"):
            yield *way, repair


def row_of(model, data, key):
    """Return one row: what is left of the network, and how it does."""
    _, cut, criterion, repair = key
    begun, thin = time.perf_counter(), model
    if cut != "none":
        asked = CUTS[cut] | {"criterion": criterion, "fuse": REPAIRS[repair]}
        thin, _ = prune_keras.prune(model, data=data[0], data_batch_size=256, **asked)
    seconds = time.perf_counter() - begun
    row = dict(zip(KEYS, key, strict=True))
    left = prune_keras.cost(thin).share_of(prune_keras.cost(model))
    row |= {"params": left["params"], "left": left["flops"]}
    row |= {"validation": subjects.accuracy(thin, data[1]), "seconds": seconds}
    row |= {"test": subjects.accuracy(thin, data[2]), "date": datetime.date.today().isoformat()}
    return row | {"processor": measuring.settings()["processor"]}


def sequences(data):
    """Return digits as rows of pixels from 0 to 1, each beside its place, one-hot."""
    places = np.eye(8, dtype="float32")
    return [
        (np.concatenate([x[..., 0] / 255, np.tile(places, (len(x), 1, 1))], -1, dtype="float32"), y)
        for x, y in data
    ]


def encoder():
    inputs = keras.Input((8, 16), name="rows")
    x = keras.layers.Dense(WIDTH, name="embedding")(inputs)
    for block in range(1, BLOCKS + 1):
        y = keras.layers.LayerNormalization(name=f"attention_norm{block}")(x)
        attention = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention{block}")
        x = keras.layers.Add()([x, attention(y, y)])
        y = keras.layers.LayerNormalization(name=f"units_norm{block}")(x)
        y = keras.layers.Dense(UNITS, "gelu", name=f"units{block}")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(WIDTH, name=f"out{block}")(y)])
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization(name="norm")(x))
    return keras.Model(inputs, keras.layers.Dense(10, "softmax", name="classes")(x))


def trained(data, seed):
    keras.utils.set_random_seed(seed)
    model = encoder()
    steps = EPOCHS * -(-len(data[0][1]) // 32)
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-2)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*data[0], batch_size=32, epochs=EPOCHS, verbose=0)
    return model


if __name__ == "__main__":
    main()

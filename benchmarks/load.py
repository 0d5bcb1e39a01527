"""Load: many rounds, many layers, a wide layer, a heavy kernel, many samples.

    python benchmarks/load.py                   # all parts, each in processes of its own
    python benchmarks/load.py layers heavy --gigabytes 1

Parts: `rounds` (cuts of one model in one `fit`), `control` (what memory grows by in such a `fit` of
Keras alone: nothing is cut, and the step is kept, or compiled anew each epoch as a cut has to),
`layers` (trace, score, cut of a deep model, at a quarter, a half and all of the layers), `wide`
(the same of one wide layer), `heavy` (memory that a cut and a kept state of a large kernel take, as
shares of a copy of it) and `data` (memory as samples pass from a tf.data.Dataset, a generator and a
PyDataset). Rows are added to `load.csv` as they are made.
"""

import argparse
import csv
import json
from pathlib import Path

import measuring

FILE = measuring.RESULTS.parent / "reliability" / "load.csv"
COLUMNS = ("date", "part", "size", "measure", "value")
PARTS = ("rounds", "control", "layers", "wide", "heavy", "data")
SIZES = {"rounds": 5000, "layers": 1000, "units": 65536, "gigabytes": 4.0, "samples": 100_000}
SOURCES = ("tf.data", "generator", "PyDataset")
BATCH = 100
SHOT = (32, 32, 3)
RECOMPILED = 150  # epochs, of some megabytes each
ROUNDS_APART = 25  # of those whose memory and time are kept
SETTLED = 0.2  # of the samples, by which memory is to have come to what a pass takes


def cases(parts, given):
    """Return `(what to measure, its size)` for the parts, one a process."""
    of = {
        "rounds": [("rounds", given.rounds)],
        "control": [("control, as compiled", given.rounds), ("control, anew", RECOMPILED)],
        "layers": [("layers", given.layers // share) for share in (4, 2, 1)],
        "wide": [("wide", given.units)],
        "heavy": [(f"heavy, {each} of 10 kept", given.gigabytes) for each in (5, 9)],
        "data": [(f"data of {source}", given.samples) for source in SOURCES],
    }
    return [case for part in parts for case in of[part]]


def measure(part, size):
    """Return what a part comes to, name -> number."""
    if part == "rounds":
        return rounds(int(size))
    if part.startswith("control"):
        return control(int(size), part.endswith("anew"))
    if part == "layers":
        return phases(deep(int(size)))
    if part == "wide":
        return phases(wide(int(size)))
    if part.startswith("heavy"):
        return heavy(size, int(part.split()[1]) / 10)
    return data(part.removeprefix("data of "), int(size))


def rounds(count):
    import endurance

    found = endurance.measure(count)
    measuring.write_table(FILE.with_name("load_rounds.csv"), found[::ROUNDS_APART])
    return endurance.summary(found)


def control(count, anew):
    """Return what memory grows by, an epoch of plain Keras, on the model that `rounds` cuts."""
    import endurance
    import keras

    model, x, y = endurance.trained()
    held = []

    class Control(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if anew:
                model.make_train_function(force=True)

        def on_epoch_end(self, epoch, logs=None):
            held.append(measuring.allocated() / 1e6)

    model.fit(x, y, batch_size=16, epochs=count, verbose=0, callbacks=[Control()])
    return {"kB allocated a round": endurance.growth(held)}


def deep(count):
    """Return a model of so many dense layers, every tenth of which ends a residual block."""
    import keras

    measured = keras.Input((8,))
    x = stream = keras.layers.Dense(8)(measured)
    for number in range(2, count):
        x = keras.layers.Dense(8, activation="relu")(x)
        if number % 10 == 0:
            x = stream = keras.layers.Add()([stream, x])
    return compiled(keras.Model(measured, keras.layers.Dense(3)(x)))


def wide(units):
    import keras

    layers = [keras.layers.Dense(units, activation="relu"), keras.layers.Dense(3)]
    return compiled(keras.Sequential([keras.Input((8,)), *layers]))


def compiled(model):
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def phases(model):
    """Return the seconds of each step of a cut by scores from data."""
    import numpy as np

    import prune_keras

    rng = np.random.default_rng(measuring.SEED)
    samples = rng.normal(size=(256, 8)).astype("float32"), rng.normal(size=(256, 3))
    found = {}

    def timed(name, function):
        found[f"seconds, {name}"], returned = measuring.seconds(function)
        return returned

    graph = timed("trace", lambda: prune_keras.trace(model))
    scores = timed("l2", lambda: prune_keras.score(model, "l2"))
    timed("taylor", lambda: prune_keras.score(model, "taylor", data=samples))
    plan = timed("select", lambda: prune_keras.select(graph, scores, {"neurons": 0.5}))
    timed("cut", lambda: prune_keras.shrink_in_place(model, plan, graph))
    return found


def heavy(gigabytes, share):
    """Return what a cut in place, and a state to go back to, take beside a kernel."""
    import keras
    import numpy as np

    import prune_keras
    from prune_keras.surgery import capture

    size = int(gigabytes * 1e9)
    units = int((size / 4) ** 0.5)
    layers = [keras.layers.Dense(units, kernel_initializer="ones", name="heavy")]
    model = keras.Sequential([keras.Input((units,)), *layers, keras.layers.Dense(1)])
    graph = prune_keras.trace(model)
    plan = prune_keras.Plan({"heavy": np.arange(int(units * share))}, {"heavy": units})
    kept, state = measuring.peak_bytes(lambda: capture(model, graph))
    del state
    cut, _ = measuring.peak_bytes(lambda: prune_keras.shrink_in_place(model, plan, graph))
    return {"copies beside it, kept": kept / size, "copies beside it, cut": cut / size}


def data(source, count):
    """Return megabytes as samples begin to pass, and at most from then on."""
    import prune_keras

    seen = []
    samples = dataset(source, count, lambda: seen.append(measuring.resident() / 1e6))
    found = {}
    for criterion in ("mean_activation", "taylor"):
        seen.clear()
        prune_keras.score(small(), criterion, data=samples)
        settled = int(len(seen) * SETTLED)
        found[f"MB, {criterion}, settled"] = seen[settled]
        found[f"MB, {criterion}, most"] = max(seen[settled:])
    return found


def small():
    import keras

    pixels = keras.Input(SHOT)
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(pixels)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def dataset(source, count, seen):
    """Return samples, made as they are read; `seen` is called for each batch."""
    import keras
    import numpy as np

    number = count // BATCH

    def batch(place):
        seen()
        rng = np.random.default_rng(place)
        return rng.random((BATCH, *SHOT), "float32"), rng.integers(0, 3, BATCH)

    class Indexed(keras.utils.PyDataset):
        def __len__(self):
            return number

        def __getitem__(self, place):
            return batch(place)

    class Generated:
        def __iter__(self):
            return (batch(place) for place in range(number))

    if source == "PyDataset":
        return Indexed()
    if source == "generator":
        return Generated()
    import tensorflow as tf

    kinds = (tf.TensorSpec((BATCH, *SHOT), "float32"), tf.TensorSpec((BATCH,), "int64"))
    return tf.data.Dataset.from_generator(Generated().__iter__, output_signature=kinds)


def add(part, size, found):
    """Add rows to the table, and show them."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    is_new = not FILE.exists()
    with open(FILE, "a", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        if is_new:
            table.writerow(COLUMNS)
        for name, value in found.items():
            row = [measuring.settings()["date"], part, size, name, f"{value:.4g}"]
            table.writerow(row)
            print(*row, sep=", ", flush=True)


def main(given):
    if given.measure:
        print(json.dumps(measure(*json.loads(given.measure))))
        return
    for case in cases(given.parts or PARTS, given):
        found = measuring.in_fresh_process(Path(__file__), "--measure", json.dumps(case))
        add(*case, found)
    measuring.write_settings(FILE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(parser.parse_args())

"""Time and memory of scores that look at samples, against `evaluate` and a training pass.

    python benchmarks/scoring.py

Forward statistics are compared with `evaluate`, gradients with `fit`, over the same batches in
the same process. The first batch, in which everything is compiled, is not counted.
"""

import argparse
import json
import time

import measuring

REPETITIONS = 5
NETWORKS = {"stack": (128, 17), "resnet50": (16, 5)}  # samples a batch, batches
CRITERIA = ("apoz", "mean_activation", "taylor")


def main(size):
    rows = []
    for network in NETWORKS:
        times = measuring.in_fresh_process(__file__, "--network", network, "--size", size)
        for criterion in CRITERIA:
            rows.append({"network": network, "criterion": criterion} | compared(times, criterion))
        rows[-1] |= peaks(network, size)
    measuring.finish("scoring", rows, repetitions=REPETITIONS, resnet50_pixels=size)


def compared(times, criterion):
    """Return what is compared with the bounds: 1.2 times evaluate, 1.3 times fit."""
    reference = "fit" if criterion == "taylor" else "evaluate"
    ratios = [a / b for a, b in zip(times[criterion], times[reference], strict=True)]
    return {
        "seconds a batch": measuring.median(times[criterion]),
        "against": reference,
        "its seconds a batch": measuring.median(times[reference]),
        "time ratio": measuring.median(ratios),
    }


def peaks(network, size):
    """Return peak memory, over that at rest, of taylor and of a training pass."""
    found = {
        work: measuring.in_fresh_process(
            __file__, "--network", network, "--size", size, "--peak", work
        )["peak"]
        for work in ("taylor", "fit")
    }
    return {
        "peak MB": found["taylor"] / 1e6,
        "its peak MB": found["fit"] / 1e6,
        "memory ratio": found["taylor"] / found["fit"],
    }


class Timed:
    """Batches of random samples that note when each one but the first is asked for."""

    def __init__(self, x, y, batch_size):
        self.x, self.y, self.batch_size = x, y, batch_size
        self.asked = []

    def __iter__(self):
        self.asked = []
        for first in range(0, len(self.x), self.batch_size):
            self.asked.append(time.perf_counter())
            yield self.x[first : first + self.batch_size], self.y[first : first + self.batch_size]

    def seconds_a_batch(self, work):
        """Return the median over the batches after the first one, the last one included."""
        work(self)
        times = [*self.asked, time.perf_counter()]
        return measuring.median([b - a for a, b in zip(times[1:], times[2:], strict=False)])


def prepared(network, size):
    """Return a compiled network and its samples."""
    import keras
    import numpy as np

    from prune_keras.models import networks

    keras.utils.set_random_seed(measuring.SEED)
    batch_size, batches = NETWORKS[network]
    if network == "stack":
        model, shape = networks.stack(), (32, 32, 3)
    else:
        shape = (size, size, 3)
        model = keras.applications.ResNet50(weights=None, input_shape=shape, classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(measuring.SEED)
    count = batch_size * batches
    x = rng.uniform(0, 255, (count, *shape)).astype("float32")
    return model, Timed(x, rng.integers(0, 10, count), batch_size)


def works(model):
    """Return what is timed, by name, as functions of the samples."""
    import keras

    import prune_keras

    class Clock(keras.callbacks.Callback):
        def __init__(self, asked):
            super().__init__()
            self.asked = asked

        def on_train_batch_begin(self, batch, logs=None):
            self.asked.append(time.perf_counter())

        on_test_batch_begin = on_train_batch_begin

    def evaluate(samples):
        model.evaluate(
            samples.x, samples.y, samples.batch_size, verbose=0, callbacks=clock(samples)
        )

    def fit(samples):
        x, y = samples.x, samples.y
        model.fit(x, y, samples.batch_size, verbose=0, callbacks=clock(samples))

    def clock(samples):
        samples.asked = []
        return [Clock(samples.asked)]

    scores = {
        name: lambda data, name=name: prune_keras.score(model, name, data) for name in CRITERIA
    }
    return {"evaluate": evaluate, "fit": fit} | scores


def measure(network, size):
    """Return seconds a batch of every work, repeatedly, in turns."""
    model, samples = prepared(network, size)
    named = works(model)
    for work in named.values():
        work(samples)
    turns = [
        {name: samples.seconds_a_batch(work) for name, work in named.items()}
        for _ in range(REPETITIONS)
    ]
    return {name: [turn[name] for turn in turns] for name in named}


def peak(network, size, name):
    """Return the peak memory of one warmed-up work over that at rest."""
    model, samples = prepared(network, size)
    work = works(model)[name]
    work(samples)
    return {"peak": measuring.peak_bytes(lambda: work(samples))[0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="pixels a side for ResNet50")
    parser.add_argument("--network", choices=NETWORKS, help="measure it alone, in this process")
    parser.add_argument("--peak", help="measure the memory of this work, not times")
    given = parser.parse_args()
    if given.peak:
        print(json.dumps(peak(given.network, given.size, given.peak)))
    elif given.network:
        print(json.dumps(measure(given.network, given.size)))
    else:
        main(given.size)

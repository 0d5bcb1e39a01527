"""Time and memory of every criterion, against the bound that its kind has.

    python benchmarks/scoring.py
    python benchmarks/scoring.py --networks stack --criteria taylor oracle

All layers are scored in one pass over the same batches that `evaluate` or `fit` take in the same
process; the first batch, in which everything is compiled, is not counted. A row is written as soon
as it is there, and not measured again while it is in the table.

- Scores from weights alone: their seconds.
- Forward statistics: at most 1.2 times `evaluate`.
- Gradients: at most 1.3 times `fit`, at 1.2 times its memory; `sensitivity` for each of the outputs
  that it differentiates.
- The oracle: at most one forward pass, which is `evaluate`, for each neuron.

Where other work runs on the machine, `--clock processor` measures what this process takes, best
with one thread (`OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1`); `--output` keeps that apart.

"other seconds" are those of a whole call that go by outside of its batches: compilation, what is
prepared, and what is fitted to what was seen.
"""

import argparse
import functools
import json
from pathlib import Path

import measuring
import tables

NETWORKS = {"stack": (128, 17), "resnet50": (16, 5)}  # samples a batch, batches
ORACLE_BATCHES = 3
FORWARD = ("apoz", "mean_activation", "activation_std", "reconstruction", "discrimination")
BACKWARD = ("taylor", "taylor_weights", "sensitivity")
WEIGHTS = ("l1", "l2", "bn_scale", "geometric_median", "random")
CRITERIA = (*WEIGHTS, *FORWARD, *BACKWARD, "oracle")
REFERENCES = dict.fromkeys((*FORWARD, "oracle"), "evaluate") | dict.fromkeys(BACKWARD, "fit")
BOUNDS = dict.fromkeys(FORWARD, 1.2) | dict.fromkeys(BACKWARD, 1.3) | {"oracle": 1.0}
COLUMNS = (
    *("network", "criterion", "seconds a batch", "passes", "against", "its seconds a batch"),
    *("time ratio", "bound", "other seconds", "peak MB", "its peak MB", "memory ratio"),
)


def main(given):
    path = given.output / "scoring.csv"
    rows = known(path)
    done = {(row["network"], row["criterion"]) for row in rows}
    for network in given.networks:
        for criterion in given.criteria:
            if (network, criterion) in done or (network, criterion) == ("resnet50", "oracle"):
                continue  # 26,000 neurons, each a pass
            found = measured(network, criterion, given)
            if "error" in found:  # bn_scale where there is no normalization
                print(network, criterion, found["error"])
                continue
            row = {"network": network, "criterion": criterion} | found
            rows.append({column: row.get(column, "") for column in COLUMNS})
            measuring.write_table(path, rows)
    measuring.RESULTS = given.output
    options = {"repetitions": given.repetitions, "clock": given.clock}
    measuring.finish("scoring", rows, resnet50_pixels=given.size, **options)


def known(path):
    """Return the rows of a table that is there already, unless it has other columns."""
    rows = tables.read(path)
    return rows if rows and tuple(rows[0]) == COLUMNS else []


def measured(network, criterion, given):
    """Return the numbers of one row, each kind of them measured in processes of its own."""
    options = ("--size", given.size, "--repetitions", given.repetitions, "--clock", given.clock)
    options += ("--batch-size", given.batch_size) if given.batch_size else ()
    this = (__file__, "--networks", network, "--criteria", criterion, *options)
    found = measuring.in_fresh_process(*this, "--here", "times")
    if "error" not in found and criterion in BACKWARD:
        own, its = (
            measuring.in_fresh_process(*this, "--here", work)["peak"] for work in (criterion, "fit")
        )
        found |= {"peak MB": own / 1e6, "its peak MB": its / 1e6, "memory ratio": own / its}
    return found


class Timed:
    """Batches of random samples that note when each one but the first is asked for."""

    def __init__(self, x, y, batch_size, clock):
        self.x, self.y, self.batch_size, self.clock = x, y, batch_size, clock
        self.asked = []

    def __iter__(self):
        self.asked = []
        for first in range(0, len(self.x), self.batch_size):
            self.note()
            yield self.x[first : first + self.batch_size], self.y[first : first + self.batch_size]

    def note(self):
        self.asked.append(measuring.CLOCKS[self.clock]())

    def seconds(self, work):
        """Return the median over the batches after the first one, and the rest of the call."""
        whole, _ = measuring.seconds(lambda: work(self), self.clock)
        times = [*self.asked, measuring.CLOCKS[self.clock]()]
        batch = measuring.median([b - a for a, b in zip(times[1:], times[2:], strict=False)])
        return batch, max(whole - batch * len(self.asked), 0.0)


def prepared(network, criterion, given):
    """Return a compiled network and its samples."""
    import keras
    import numpy as np

    from prune_keras.models import networks

    keras.utils.set_random_seed(measuring.SEED)
    batch_size, batches = NETWORKS[network]
    batch_size = given.batch_size or batch_size
    if network == "stack":
        model, shape = networks.stack(), (32, 32, 3)
    else:
        shape = (given.size, given.size, 3)
        model = keras.applications.ResNet50(weights=None, input_shape=shape, classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(measuring.SEED)
    count = batch_size * (ORACLE_BATCHES if criterion == "oracle" else batches)
    x = rng.uniform(0, 255, (count, *shape)).astype("float32")
    return model, Timed(x, rng.integers(0, 10, count), batch_size, given.clock)


def works(model, criterion):
    """Return what is timed, by name, as functions of the samples."""
    import keras

    import prune_keras

    class Clock(keras.callbacks.Callback):
        def __init__(self, samples):
            super().__init__()
            self.samples = samples

        def on_train_batch_begin(self, batch, logs=None):
            self.samples.note()

        on_test_batch_begin = on_train_batch_begin

    def clock(samples):
        samples.asked = []
        return [Clock(samples)]

    def evaluate(samples):
        x, y = samples.x, samples.y
        model.evaluate(x, y, samples.batch_size, verbose=0, callbacks=clock(samples))

    def fit(samples):
        x, y = samples.x, samples.y
        model.fit(x, y, samples.batch_size, verbose=0, callbacks=clock(samples))

    def score(samples):
        prune_keras.score(model, criterion, samples, seed=measuring.SEED)

    return {"evaluate": evaluate, "fit": fit, criterion: score}


def passes_of(model, criterion):
    """Return how many passes a criterion takes for each batch."""
    import prune_keras
    from prune_keras import criteria

    if criterion == "sensitivity":
        return min(criteria.sensitivity.outputs, model.output_shape[-1])
    return prune_keras.cost(model).neurons if criterion == "oracle" else 1


def times(model, samples, criterion, repetitions):
    """Return what a criterion takes, and what it is compared with, measured in turns."""
    named = works(model, criterion)
    if criterion in WEIGHTS:
        named[criterion](None)
        work = functools.partial(named[criterion], None)
        found = [measuring.seconds(work, samples.clock)[0] for _ in range(repetitions)]
        return {"other seconds": measuring.median(found)}
    reference, passes = REFERENCES[criterion], passes_of(model, criterion)
    for name in (reference, criterion):
        named[name](samples)
    turns = []
    for _ in range(repetitions):
        (its, _), (own, other) = (samples.seconds(named[name]) for name in (reference, criterion))
        turns.append(
            {
                "seconds a batch": own,
                "its seconds a batch": its,
                "time ratio": own / its / passes,
                "other seconds": other,
            }
        )
    fixed = {"against": reference, "passes": passes, "bound": BOUNDS[criterion]}
    return fixed | measuring.medians(turns)


def peak(model, samples, criterion, name):
    """Return the peak memory of one warmed-up work over that at rest."""
    work = works(model, criterion)[name]
    work(samples)
    return {"peak": measuring.peak_bytes(lambda: work(samples))[0]}


def here(given):
    """Measure one criterion of one network in this process."""
    (network,), (criterion,) = given.networks, given.criteria
    model, samples = prepared(network, criterion, given)
    try:
        if given.here == "times":
            return times(model, samples, criterion, given.repetitions)
        return peak(model, samples, criterion, given.here)
    except ValueError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    parser.add_argument("--size", type=int, default=224, help="pixels a side for ResNet50")
    parser.add_argument("--batch-size", type=int, help="instead of those of the networks")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--clock", choices=measuring.CLOCKS, default="wall")
    parser.add_argument("--output", type=Path, default=measuring.RESULTS)
    parser.add_argument("--here", help="print one measurement: times, or the peak of this work")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(here(arguments)))
    else:
        main(arguments)

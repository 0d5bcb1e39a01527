"""Epochs of fine-tuning that halving the FLOPs needs, against the depth of a plain stack.

    python benchmarks/search_depth.py --data DIR

Stacks of 4 to 16 convolutions of equal width, batch-normalized, are trained and then cut by two
ways with the same score. `layerwise` cuts one layer after another, each to the share that all
layers need for the target; `global` cuts in a fixed number of rounds over all layers. After each
cut the network is fine-tuned, half an epoch at a time, until its validation accuracy is within a
drop of 2 points of its own dense one, or for `--most` epochs; what is within it at once is cut on
without an epoch. Rows that are in the table already are not made again.
"""

import argparse
import time

import keras
import matplotlib
import numpy as np
import searching
import subjects

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import prune_keras  # noqa: E402
from prune_keras.models import cifar10, images, precision, runs  # noqa: E402
from prune_keras.repair.recalibration import recalibrate  # noqa: E402

PRECISION = "mixed_bfloat16"
DEPTHS = (4, 8, 12, 16)
TARGET = 0.5
DROP = 0.02
ROUNDS = 5  # of the global way, at any depth
PIECES = 2  # in which an epoch is counted
LEARNING_RATE = 3e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    searching.add_arguments(parser, images=10_000)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--dense-epochs", type=int, default=15)
    parser.add_argument("--most", type=int, default=5, help="epochs after a cut")
    arguments = parser.parse_args()
    data = searching.cifar10(arguments)
    shared = {name: vars(arguments)[name] for name in ("images", "width", "dense_epochs", "most")}
    shared |= {"rounds": ROUNDS, "drop": DROP, "flops": TARGET, "precision": PRECISION}
    path = arguments.output / "depth.csv"
    table = searching.Table(path, ("depth", "seed", "way"), **shared)
    for seed in arguments.seeds:
        for depth in arguments.depths:
            run(table, data, depth, seed, arguments)
    draw(table.rows, arguments.output / "depth.png")


def run(table, data, depth, seed, arguments):
    """Make the rows of one dense network that are not there yet."""
    ways = {"layerwise": layerwise, "global": in_rounds}
    missing = [way for way in ways if not table.find(depth, seed, way)]
    if not missing:
        return
    settings = cifar10.settings(
        seed=seed, precision=PRECISION, dense_epochs=arguments.dense_epochs, verbose=2
    )
    file = arguments.output / "networks" / f"depth_{depth}_{seed}.keras"
    if not file.exists():
        train(depth, arguments.width, data, settings, file)
    for way in missing:
        keras.utils.clear_session()
        model = precision.convert(keras.models.load_model(file, compile=False), PRECISION)
        tuning = Tuning(model, data, settings, arguments.most)
        for plan in ways[way](model, data):
            tuning.cut(plan)
        table.add({"depth": depth, "seed": seed, "way": way} | tuning.row())


def plain(depth, width):
    """Return a stack whose pixels become fewer after each quarter of its convolutions."""
    inputs = x = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(x)
    for number in range(depth):
        begins = number and number % (depth // 4) == 0
        x = keras.layers.MaxPooling2D()(x) if begins else x
        strides = 1 if number else 2
        x = keras.layers.Conv2D(width, 3, strides, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax", dtype="float32")(x))


def train(depth, width, data, settings, file):
    """Train a dense stack and write it."""
    keras.utils.set_random_seed(settings.seed)
    with precision.policy(PRECISION):
        model = plain(depth, width)
    batches = images.batches(data, settings, settings.seed)
    steps = settings.dense_epochs * len(batches)
    runs.compile_model(model, settings, settings.dense_learning_rate, steps)
    runs.fit(model, batches, data, settings, settings.dense_epochs)
    file.parent.mkdir(parents=True, exist_ok=True)
    prune_keras.export(model, file)


def scored(model, data):
    graph = prune_keras.trace(model)
    samples = subjects.first(data.train, subjects.SCORED)
    return graph, prune_keras.score(model, "taylor", data=samples)


def layerwise(model, data):
    """Yield one plan a layer, from the first layer to the last."""
    graph, scores = scored(model, data)
    uniform = prune_keras.select(graph, scores, target={"flops": TARGET}, scope="uniform")
    for path, width in uniform.new_widths.items():
        graph, scores = scored(model, data)
        kept = {each: np.arange(units) for each, units in graph.widths.items()}
        kept[path] = np.sort(np.argsort(scores[path], kind="stable")[-width:])
        yield prune_keras.Plan(kept, graph.widths)


def in_rounds(model, data):
    """Yield one plan a round, each of which takes the same fraction of the FLOPs."""
    whole = prune_keras.cost(model).flops
    for number in range(1, ROUNDS + 1):
        graph, scores = scored(model, data)
        share = TARGET ** (number / ROUNDS) * whole / graph.cost.flops
        yield prune_keras.select(graph, scores, target={"flops": share})


class Tuning:
    """Cuts a network by plans and fine-tunes it after each, counting the epochs."""

    def __init__(self, model, data, settings, most):
        self.model, self.data, self.settings, self.most = model, data, settings, most
        self.batches = images.batches(data, settings, settings.seed + 1)
        self.steps = len(self.batches) // PIECES
        keras.utils.set_random_seed(settings.seed)
        loss = keras.losses.SparseCategoricalCrossentropy()
        model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, metrics=["accuracy"])
        self.dense, self.whole = self.accuracy(), prune_keras.cost(model).flops
        self.pieces, self.cuts, self.begun = [], [], time.perf_counter()

    def accuracy(self):
        return runs.accuracy(self.model, self.data.validation, self.settings)

    def cut(self, plan):
        """Cut, and fine-tune until the accuracy is back."""
        prune_keras.shrink_in_place(self.model, plan)
        recalibrate(self.model, subjects.first(self.data.train, subjects.SCORED))
        self.metric = self.accuracy()
        self.cuts.append(self.metric)
        pieces = 0
        while self.metric < self.dense - DROP and pieces < PIECES * self.most:
            self.fit_piece(sum(self.pieces) + pieces)
            self.metric, pieces = self.accuracy(), pieces + 1
        self.pieces.append(pieces)

    def fit_piece(self, number):
        """Train on the part of an epoch that comes next."""
        places = range(self.steps * (number % PIECES), self.steps * (number % PIECES + 1))
        for place in places:
            self.model.train_on_batch(*self.batches[place])
        if number % PIECES == PIECES - 1:
            self.batches.on_epoch_end()

    def row(self):
        """Return what was needed, and what came of it; the test images are looked at here."""
        cost = prune_keras.cost(self.model)
        return {
            "cuts": len(self.cuts),
            "epochs": sum(self.pieces) / PIECES,
            "held": self.metric >= self.dense - DROP,
            "dense_accuracy": self.dense,
            "val_accuracy": self.metric,
            "test_accuracy": runs.accuracy(self.model, self.data.test, self.settings),
            "params": cost.params,
            "flops": cost.flops / self.whole,
            "seconds": time.perf_counter() - self.begun,
            "after_cuts": " ".join(f"{accuracy:.4f}" for accuracy in self.cuts),
            "epochs_by_cut": " ".join(f"{pieces / PIECES:g}" for pieces in self.pieces),
        }


def draw(rows, path):
    """Draw epochs against depth: a dot a seed, a line through their means."""
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for way in dict.fromkeys(row["way"] for row in rows):
        found = {}
        for row in (row for row in rows if row["way"] == way):
            found.setdefault(int(row["depth"]), []).append(float(row["epochs"]))
        depths = sorted(found)
        (line,) = axes.plot(depths, [np.mean(found[depth]) for depth in depths], label=way)
        for depth in depths:
            axes.plot([depth] * len(found[depth]), found[depth], ".", color=line.get_color())
    axes.set(xlabel="convolutions", ylabel="epochs of fine-tuning", xticks=sorted(found))
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()

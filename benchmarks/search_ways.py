"""Ways to find the widths of a network, at equal epochs and equal FLOPs.

    python benchmarks/search_ways.py --data DIR

A dense stack is trained (`networks/dense_SEED.keras` in the output folder is taken if it is there),
then cut to a share of its FLOPs in every way, with the same epochs, learning rates and images. Ways
in rounds cut over the first half of these epochs, a round an epoch; layer by layer, two an epoch.
`scratch` is the architecture that the first way has found, trained from new weights for the epochs
of the dense network and of pruning. Decisions see training and validation images; the test images
are looked at once for each final network. Rows that are in the table already are not made again.
"""

import argparse
import time

import keras
import searching
import subjects

import prune_keras
from prune_keras import schedules
from prune_keras.callbacks import ProgressivePruning
from prune_keras.models import cifar10, images, networks, precision, runs

PRECISION = "mixed_bfloat16"
TARGETS = (0.5, 0.25)
TAYLOR = {"criterion": "taylor", "debias": "mean", "fuse": "weights"}
BOTH = TAYLOR | {"criterion": "mean(taylor, reconstruction)"}  # the default
L2 = {"criterion": "l2", "debias": "mean", "fuse": None}
ONE_SHOT = {"schedule": schedules.OneShot()}
FIRST, SCRATCH = "global, progressive", "scratch"
WAYS = {
    FIRST: TAYLOR,
    "global, one-shot": TAYLOR | ONE_SHOT,
    "global, progressive, mean(taylor, reconstruction)": BOTH,
    "global, progressive, without repair": TAYLOR | {"fuse": None},
    "global, progressive, l2": L2 | {"fuse": "weights"},
    "global, progressive, l2 without repair": L2,
    "global, one-shot, l2 without repair": L2 | ONE_SHOT,
    "layerwise": TAYLOR | {"scope": "layerwise"},
    "layerwise, tuned by sensitivity": TAYLOR | {"debias": "sensitivity"},
    "uniform": TAYLOR | {"scope": "uniform"},
    "random": TAYLOR | {"scope": "uniform", "criterion": "random"},
}
# One kind of layers keeps all its units; the other is cut to a share of its own units, or until
# that share of all the network's parameters is left; or of its FLOPs, which lie in convolutions.
KINDS = {"dense": "conv*", "convolutions": "hidden"}
PARTS = {
    f"only {kind}, {metric}": TAYLOR | {"exclude": spared, "metric": metric}
    for metric in ("neurons", "params")
    for kind, spared in KINDS.items()
}
PARTS["only convolutions, flops"] = TAYLOR | {"exclude": "hidden"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    searching.add_arguments(parser, images=15_000)
    parser.add_argument("--dense-epochs", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=6)
    every = [*WAYS, SCRATCH, *PARTS]
    parser.add_argument("--ways", nargs="+", choices=every, default=every)
    arguments = parser.parse_args()
    data = searching.cifar10(arguments)
    shared = {name: vars(arguments)[name] for name in ("images", "dense_epochs", "epochs")}
    shared |= {"precision": PRECISION}
    path = arguments.output / "ways.csv"
    table = searching.Table(path, ("seed", "target", "way"), **shared)
    for seed in arguments.seeds:
        settings = settings_of(seed, arguments)
        file = arguments.output / "networks" / f"dense_{seed}.keras"
        run_seed(table, data, settings, file, arguments.ways)


def settings_of(seed, arguments):
    return cifar10.settings(
        seed=seed,
        precision=PRECISION,
        dense_epochs=arguments.dense_epochs,
        epochs=arguments.epochs,
        fine_tune_epochs=0,
        verbose=2,
        samples=subjects.SCORED,
    )


def run_seed(table, data, settings, file, chosen):
    """Make the rows of one seed that are not there yet."""
    seed = settings.seed
    missing = not table.find(seed, 1, "dense")
    if missing or not file.exists():
        row = train_dense(data, settings, file)
        if missing:
            table.add(row)
    if not table.find(seed, 1, "dense, trained on"):
        table.add(train_on(load(file), data, settings))
    for target in TARGETS:
        for way in chosen:
            if not table.find(seed, target, way):
                row = {"seed": seed, "target": target, "way": way}
                table.add(row | made(table, file, data, settings, target, way))


def made(table, file, data, settings, target, way):
    """Return what one way comes to."""
    if way != SCRATCH:
        return pruned(load(file), data, settings, target, (WAYS | PARTS)[way])
    first = table.find(settings.seed, target, FIRST)
    if first is None:
        raise ValueError(f"The widths must be known. Received: no row of '{FIRST}'. Add this way.")
    return from_scratch(first["widths"], data, settings)


def train_dense(data, settings, file):
    """Train the dense network, unless the file is there, and return its row."""
    keras.utils.set_random_seed(settings.seed)
    model = load(file) if file.exists() else cifar10.build("stack", PRECISION)
    epochs = 0 if file.exists() else settings.dense_epochs
    found = train(model, data, settings, settings.dense_learning_rate, epochs)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        prune_keras.export(model, file)
    return {"seed": settings.seed, "target": 1, "way": "dense"} | found


def train_on(model, data, settings):
    """Return the row of the dense network that trains on for as long as the thinner ones."""
    keras.utils.set_random_seed(settings.seed)
    found = train(model, data, settings, settings.learning_rate, settings.epochs)
    return {"seed": settings.seed, "target": 1, "way": "dense, trained on"} | found


def from_scratch(widths, data, settings):
    """Return what becomes of an architecture that is trained from new weights."""
    keras.utils.set_random_seed(settings.seed)
    *filters, units = map(int, widths.split())
    model = networks.stack(filters, units, precision=PRECISION)
    epochs = settings.dense_epochs + settings.epochs
    return train(model, data, settings, settings.dense_learning_rate, epochs)


def pruned(model, data, settings, target, arguments):
    """Return what a network comes to that is pruned in one way."""
    keras.utils.set_random_seed(settings.seed)
    begun = time.perf_counter()
    arguments = dict(arguments)
    metric = arguments.pop("metric", "flops")
    share = share_of_all(model, arguments, target) if metric == "neurons" else target
    if arguments["debias"] == "sensitivity":
        arguments["debias"] = measured(model, data, settings)
    arguments = pace(target, data, settings, arguments) | arguments
    samples = subjects.first(data.train, settings.samples)
    pruning = ProgressivePruning(
        target={metric: share}, data=samples, seed=settings.seed, verbose=0, **arguments
    )
    prepared = time.perf_counter() - begun
    found = train(model, data, settings, settings.learning_rate, settings.epochs, pruning)
    check(pruning, {metric: share})
    return found | {"seconds": prepared + found["seconds"]}


def pace(target, data, settings, arguments):
    """Return in which steps to prune: a round an epoch in their first half.

    Layer by layer, two turns an epoch bring one layer after another to the square root of the
    target, as the FLOPs of a convolution fall with its inputs, too; what is then left over goes
    from the first layers in another round.
    """
    if "schedule" in arguments:
        return {}
    if arguments.get("scope") == "layerwise":
        steps = len(images.batches(data, settings, 0)) // 2
        return {"batches_per_round": steps, "fraction": 1 - target**0.5}
    return {"schedule": schedules.Geometric(max(1, settings.epochs // 2))}


def share_of_all(model, arguments, target):
    """Return the share of all neurons that is left where one kind keeps a share of its own."""
    graph = prune_keras.trace(model)
    spared = arguments["exclude"].removesuffix("*")
    own = sum(width for path, width in graph.widths.items() if not path.startswith(spared))
    return 1 - (1 - target) * own / graph.neurons


def measured(model, data, settings):
    """Return the sensitivity of each layer on validation images."""
    runs.compile_model(model, settings, 0.0, 1)
    few = subjects.first(data.validation, settings.samples)
    return prune_keras.sensitivity(model, few, "taylor", seed=settings.seed)


def check(pruning, target):
    """Raise unless pruning ended at its target, at most 2 % of the whole below."""
    ((metric, share),) = target.items()
    left = pruning.report.after.share_of(pruning.report.before)[metric]
    if not share - 0.02 <= left <= share:
        raise ValueError(
            f"All ways must end at the same cost. Received: {left} of the {metric} left, not "
            f"{share}. Give pruning more epochs."
        )


def train(model, data, settings, learning_rate, epochs, pruning=None):
    """Fit a network and return what it has come to."""
    batches = images.batches(data, settings, settings.seed + 1)
    runs.compile_model(model, settings, learning_rate, epochs * len(batches))
    begun = time.perf_counter()
    history = keras.callbacks.History()
    callbacks = [history] if pruning is None else [pruning, history]
    if epochs:
        runs.fit(model, batches, data, settings, epochs, callbacks)
    seconds = time.perf_counter() - begun
    accuracies = history.history.get("val_accuracy", []) if epochs else []
    cost = prune_keras.cost(model)
    return {
        "after_cut": after_cut(pruning),
        "val_accuracy": runs.accuracy(model, data.validation, settings),
        "test_accuracy": runs.accuracy(model, data.test, settings),
        "params": cost.params,
        "flops": cost.flops,
        "epochs": epochs,
        "seconds": seconds,
        "widths": " ".join(str(width) for width in prune_keras.trace(model).widths.values()),
        "by_epoch": " ".join(f"{accuracy:.4f}" for accuracy in accuracies),
    }


def after_cut(pruning):
    """Return the accuracy right after the last cut, if an epoch began with it."""
    metric = pruning.rounds[-1].metric_cut if pruning is not None else None
    return "" if metric is None else metric


def load(file):
    keras.utils.clear_session()  # some forty networks are made in this process
    return precision.convert(keras.models.load_model(file, compile=False), PRECISION)


if __name__ == "__main__":
    main()

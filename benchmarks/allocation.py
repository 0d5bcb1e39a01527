"""Accuracy right after a cut, without training: scopes, and steps of one cut.

    python benchmarks/allocation.py --data DIR --networks resnet20

Each row is one cut of a trained network to a share of its FLOPs, with weights fused and statistics
measured anew on the samples that it was scored on, and the accuracy of what is left on validation
images. Rows that are in the table already are not made again.
"""

import argparse

import measuring
import subjects
import tables
from first_cut import repaired

import prune_keras

SHARES = ("0.5", "0.7")
TWO = "mean(taylor, reconstruction)"
SCOPES = ("global", "per_cost", "optimal")
STEPS = ("2", "4", "8")
SETS = ("0", "1", "2")  # of samples
KEYS = ("network", "criterion", "debias", "scope", "steps", "flops", "seed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.add_argument("--criteria", nargs="+", help="rows of these only")
    parser.add_argument("--sets", nargs="+", default=SETS, help="sets of samples, of 0, 1, 2")
    arguments = parser.parse_args()
    path, data = arguments.output / "allocation.csv", subjects.cifar10(arguments)
    rows = tables.read(path)
    for name in arguments.networks:
        model = subjects.load(name, arguments)
        for key in keys(name, arguments):
            if key not in {tuple(row[each] for each in KEYS) for row in rows}:
                rows.append(row_of(model, data, key))
                print(rows[-1], flush=True)
                subjects.write(path, rows)


def keys(network, arguments):
    """Yield what tells each row from all others, the rows of one step first."""
    pairs = [
        (TWO, "mean"),
        *((c, d) for c in ("taylor", "taylor_weights") for d in ("none", "mean")),
    ]
    pairs = [each for each in pairs if each[0] in (arguments.criteria or each)]
    for seed in arguments.sets:
        for share in SHARES:
            for criterion, debias in pairs:
                for scope in SCOPES:
                    yield network, criterion, debias, scope, "1", share, seed
    for seed in arguments.sets:
        for steps in STEPS:
            for criterion, debias in pairs:
                for scope in ("global", "optimal") if debias == "none" else ("global",):
                    yield network, criterion, debias, scope, steps, "0.5", seed


def row_of(model, data, key):
    """Return one row: what is left of the network, and how it does."""
    _, criterion, debias, scope, steps, share, seed = key
    begin = int(seed) * subjects.SCORED
    samples = tuple(array[begin : begin + subjects.SCORED] for array in data.train)
    choice = {"target": {"flops": float(share)}, "debias": debias, "scope": scope}
    seconds, thin = measuring.seconds(
        lambda: (
            cut_at_once(model, criterion, samples, choice)
            if steps == "1"
            else prune_keras.prune(
                model, criterion=criterion, data=samples, fuse="weights", steps=int(steps), **choice
            )[0]
        )
    )
    left = prune_keras.cost(thin).share_of(prune_keras.cost(model))
    found = {"params": left["params"], "left": left["flops"], "neurons": left["neurons"]}
    found |= {"accuracy": subjects.accuracy(thin, data.validation), "seconds": seconds}
    return dict(zip(KEYS, key, strict=True)) | found


def cut_at_once(model, criterion, samples, choice):
    graph, scores = prune_keras.trace(model), scores_of(model, criterion, samples)
    return repaired(model, graph, prune_keras.select(graph, scores, **choice), samples, "weights")


KNOWN = {}


def scores_of(model, criterion, samples):
    """Return scores, made once for each set of samples."""
    key = (id(model), criterion, float(samples[0][0].sum()))
    if key not in KNOWN:
        KNOWN[key] = prune_keras.score(model, criterion, data=samples)
    return KNOWN[key]


if __name__ == "__main__":
    main()

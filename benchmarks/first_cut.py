"""Accuracy right after one cut, without fine-tuning: criteria, debiases and repairs.

    python benchmarks/first_cut.py --data DIR --stack results/cifar10/stack/dense.keras

Each row is one cut of a trained network to a share of its FLOPs, and the accuracy of what is left
on validation images. Criteria, repairs and batch normalization see training images; what competes
for the default sees other ones with each seed. Rows that are in the table already are not made
again.
"""

import argparse

import subjects
import tables

import prune_keras
from prune_keras import criteria, debias
from prune_keras.repair import Repair
from prune_keras.surgery import kept_neurons

SHARES = (0.9, 0.7, 0.5)
REPAIRS = ("none", "bias", "weights")
TWO = "mean(taylor, reconstruction)"
SEEDS = dict.fromkeys(["random", "taylor", "reconstruction", TWO], (0, 1, 2))
KEYS = ("network", "criterion", "debias", "flops", "repair", "seed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.add_argument("--criteria", nargs="+", help="these only, by name, with the mean")
    arguments = parser.parse_args()
    path, data = arguments.output / "first_cut.csv", subjects.cifar10(arguments)
    rows = tables.read(path)
    known = {tuple(row[key] for key in KEYS) for row in rows}
    for name in arguments.networks:
        model = subjects.load(name, arguments)
        for criterion, by, seed in combinations(arguments.criteria):
            wanted = [(s, r) for s in SHARES for r in REPAIRS]
            keys = [(name, criterion, by, str(s), r, str(seed)) for s, r in wanted]
            if known.issuperset(keys):
                continue
            try:
                rows += cuts(model, data, keys)
            except ValueError as error:  # bn_scale where there is no normalization
                print(name, criterion, by, error)
            subjects.write(path, rows)


def combinations(chosen=None):
    """Return every criterion with the default debias, and every debias with three criteria."""
    every = [*(name for name in criteria.CRITERIA if name != "oracle"), TWO]
    pairs = [(criterion, "mean", SEEDS.get(criterion, (0,))) for criterion in chosen or every]
    for criterion in () if chosen else ("l2", "taylor", "reconstruction"):
        pairs += [(criterion, by, (0,)) for by in [*debias.DEBIASES, "affine"] if by != "mean"]
    return [(criterion, by, seed) for criterion, by, seeds in pairs for seed in seeds]


def cuts(model, data, keys):
    """Yield a row for each share and repair of one criterion and debias."""
    _, criterion, by, *_, seed = keys[0]
    begin = 0 if criterion == "random" else int(seed) * subjects.SCORED
    scored = tuple(array[begin : begin + subjects.SCORED] for array in data.train)
    graph = prune_keras.trace(model)
    scores = prune_keras.score(model, criterion, data=scored, seed=int(seed))
    if by == "affine":
        by = prune_keras.fit_affine(model, criterion, subjects.first(scored, subjects.JUDGED))
    for key in keys:
        share, repair = float(key[3]), key[4]
        plan = prune_keras.select(graph, scores, target={"flops": share}, debias=by)
        thin = repaired(model, graph, plan, scored, repair)
        cost = prune_keras.cost(thin).share_of(graph.cost)
        row = dict(zip(KEYS, key, strict=True)) | {
            "params": cost["params"],
            "accuracy": subjects.accuracy(thin, data.validation),
        }
        print(row, flush=True)
        yield row


def repaired(model, graph, plan, samples, repair):
    """Return the thin model, with its weights fused and its statistics measured anew."""
    thin = prune_keras.shrink(model, plan)
    fuse = None if repair == "none" else repair
    Repair.of(model, graph, kept_neurons(graph, plan), samples, fuse).apply(thin)
    return thin


if __name__ == "__main__":
    main()

"""Which score is right: rank correlation of criteria and debiases with the measured oracle.

    python benchmarks/agreement.py --data DIR --stack results/cifar10/stack/dense.keras

The oracle is the change of the loss on validation images when a neuron is silenced; criteria see
training images. Spearman's correlation within families is the mean over families of at least eight
neurons, weighted by their size; the global one is over all neurons, after a debias. Oracles are
kept in the output folder, so that the command can be run again.
"""

import argparse

import numpy as np
import subjects
from scipy import stats

import prune_keras
from prune_keras import criteria, debias
from prune_keras.selection.scores import combine_members, debiased

LEAST = 8
CRITERIA = [name for name in criteria.CRITERIA if name != "oracle"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    arguments = parser.parse_args()
    data, rows = subjects.cifar10(arguments), []
    for name in arguments.networks:
        model = subjects.load(name, arguments)
        rows += network_rows(name, model, data, arguments.output)
        subjects.write(arguments.output / "agreement.csv", rows)


def network_rows(name, model, data, output):
    """Yield one row for each criterion and debias."""
    graph, scored = prune_keras.trace(model), subjects.first(data.train, subjects.SCORED)
    file = output / f"oracle_{name}.npz"
    oracle = stored(file, lambda: measured(model, "oracle", data.validation))
    losses = combine_members(graph, oracle, "mean")
    for criterion in CRITERIA:
        try:
            scores = measured(model, criterion, scored)
        except ValueError as error:  # bn_scale where there is no normalization
            print(name, criterion, error)
            continue
        combined = combine_members(graph, scores, "mean")
        row = {"network": name, "criterion": criterion, "within": within(combined, losses)}
        for by in [*debias.DEBIASES, "affine"]:
            fitted = by
            if by == "affine":
                fitted = prune_keras.fit_affine(model, criterion, scored_few(data), seed=0)
            values = debiased(graph, combined, debias.get(fitted))
            found = row | {"debias": by, "global": correlation(values, losses)}
            print(found, flush=True)
            yield found


def scored_few(data):
    return subjects.first(data.train, subjects.JUDGED)


def measured(model, criterion, pair):
    count = subjects.JUDGED if criterion == "oracle" else subjects.SCORED
    return prune_keras.score(model, criterion, data=subjects.first(pair, count), seed=0)


def stored(file, measure):
    """Return the scores of a file, measured and written if it is not there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **measure())
    with np.load(file) as held:
        return dict(held)


def within(values, losses):
    """Return the mean over families of the rank correlation in each."""
    sizes = np.array([len(v) for v in values])
    found = [stats.spearmanr(v, w).statistic for v, w in zip(values, losses, strict=True)]
    found = np.nan_to_num(found)  # a family of equal scores says nothing
    return float(np.average(found[sizes >= LEAST], weights=sizes[sizes >= LEAST]))


def correlation(values, losses):
    """Return the rank correlation over all neurons."""
    return float(stats.spearmanr(np.concatenate(values), np.concatenate(losses)).statistic)


if __name__ == "__main__":
    main()

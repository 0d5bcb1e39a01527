"""Accuracy right after one cut, without training: scores that know the repair, beside others.

    python benchmarks/obs.py --data DIR

Each row is one cut of the trained ResNet-20 to a share of its FLOPs, weights fused and batch
normalization measured anew, and the accuracy of what is left on 5,000 training images that nothing
else looked at. Criteria and repair see 1,024 other ones, with each seed. Rows that are in the table
already are not made again.
"""

import argparse

import first_cut
import measuring
import subjects
import tables

import prune_keras

SAMPLES = 1024
SHARES = (0.7, 0.6, 0.5, 0.4)
WAYS = (
    ("obs", "none"),
    ("obs", "mean"),
    ("obs", "flops"),
    (first_cut.TWO, "mean"),  # the default
    ("taylor", "mean"),
    ("reconstruction", "mean"),
    ("l2", "mean"),
)
KEYS = ("criterion", "debias", "seed", "flops")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    path, data = arguments.output / "obs.csv", subjects.cifar10(arguments)
    rows, model = tables.read(path), subjects.load("resnet20", arguments)
    known = {tuple(row[key] for key in KEYS) for row in rows}
    for seed in arguments.seeds:
        samples = tuple(a[seed * SAMPLES : (seed + 1) * SAMPLES] for a in data.train)
        scored = {}
        for criterion, by in WAYS:
            keys = [(criterion, by, str(seed), str(share)) for share in arguments.shares]
            if known.issuperset(keys):
                continue
            if criterion not in scored:
                scored[criterion] = measuring.seconds(
                    lambda name=criterion, x=samples: prune_keras.score(model, name, x)
                )
            rows += cuts(
                model, data, samples, scored[criterion], [k for k in keys if k not in known]
            )
            subjects.write(path, rows, samples=SAMPLES)


def cuts(model, data, samples, scored, keys):
    """Yield a row for each share of one criterion and debias."""
    graph, (seconds, scores) = prune_keras.trace(model), scored
    for key in keys:
        _, by, _, share = key
        plan = prune_keras.select(graph, scores, target={"flops": float(share)}, debias=by)
        thin = first_cut.repaired(model, graph, plan, samples, "weights")
        row = dict(zip(KEYS, key, strict=True)) | {
            "params": prune_keras.cost(thin).share_of(graph.cost)["params"],
            "accuracy": subjects.accuracy(thin, data.validation),
            "seconds": round(seconds, 1),
        }
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()

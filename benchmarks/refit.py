"""Accuracy right after one cut, without fine-tuning: weights fused, or fitted anew one by one.

    python benchmarks/refit.py --data DIR --networks resnet20

Each row is one cut of a trained network to a share of its FLOPs by one plan, one repair with some
training images, and the accuracy of what is left on validation images. Rows that are in the table
already are not made again.
"""

import argparse
import time

import subjects
import tables

import prune_keras
from prune_keras.repair import Repair
from prune_keras.surgery import kept_neurons

RESULTS = subjects.RESULTS.parent / "refit"
KEYS = ("network", "flops", "repair", "images")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.add_argument("--images", nargs="+", type=int, default=[256, 1024, 4096])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5])
    parser.set_defaults(output=RESULTS, networks=["resnet20"])
    arguments = parser.parse_args()
    path, data = arguments.output / "refit.csv", subjects.cifar10(arguments)
    rows = tables.read(path)
    known = {tuple(row[key] for key in KEYS) for row in rows}
    for name in arguments.networks:
        model = subjects.load(name, arguments)
        graph = prune_keras.trace(model)
        samples = subjects.first(data.train, subjects.SCORED)
        scores = prune_keras.score(model, "taylor", data=samples)
        for share in arguments.shares:
            plan = prune_keras.select(graph, scores, target={"flops": share})
            for images in arguments.images:
                for repair in ("weights", "sequential"):
                    key = (name, str(share), repair, str(images))
                    if key in known:
                        continue
                    used = subjects.first(data.train, images)
                    rows.append(row(key, model, graph, plan, used, data.validation))
                    print(rows[-1], flush=True)
                    subjects.write(path, rows)


def row(key, model, graph, plan, samples, validation):
    begun, used = time.perf_counter(), time.process_time()
    thin = prune_keras.shrink(model, plan)
    Repair.of(model, graph, kept_neurons(graph, plan), samples, key[2]).apply(thin)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    return dict(zip(KEYS, key, strict=True)) | {
        "dense": subjects.accuracy(model, validation),
        "accuracy": subjects.accuracy(thin, validation),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used, 1),
    }


if __name__ == "__main__":
    main()

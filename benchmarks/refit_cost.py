"""Processor seconds and memory of a sequential refit, beside `evaluate` over the same images.

    python benchmarks/refit_cost.py --networks resnet50 vgg16 --images 16
    python benchmarks/refit_cost.py --images 1024 --gigabytes 4

Each network is Keras' own, of random weights, at 224 pixels; half of its FLOPs go by the L2 norm of
units. Each is measured in a process of its own with one thread, which evaluates a batch to begin
with, then all images, refits, and evaluates again. Processor seconds depend less on what else runs
than those of a clock.
"""

import argparse
import functools
import json
import os
import time

import measuring

NETWORKS = {"resnet50": "ResNet50", "vgg16": "VGG16"}
BATCH = 16
GIGABYTES = 16  # so that all of some hundred images are looked at
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--gigabytes", type=int, default=GIGABYTES, help="that a refit may hold")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps(measured(*arguments.networks, arguments.images, arguments.gigabytes)))
        return
    os.environ.update(dict.fromkeys(THREADS, "1"))
    rows = []
    for name in arguments.networks:
        sizes = ("--images", arguments.images, "--gigabytes", arguments.gigabytes)
        rows.append(
            measuring.in_fresh_process(__file__, "--in-process", "--networks", name, *sizes)
        )
        measuring.finish("refit_cost", rows, batch_size=BATCH, pixels=224, threads=1)


def measured(name, images, gigabytes):
    """Return the seconds and peaks of a refit and of `evaluate`, and the ratio of seconds."""
    import keras
    import numpy as np

    import prune_keras
    from prune_keras.repair import Refit, Repair
    from prune_keras.samples.batches import Samples
    from prune_keras.surgery import kept_neurons

    keras.utils.set_random_seed(measuring.SEED)
    model = getattr(keras.applications, NETWORKS[name])(weights=None)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(images, 224, 224, 3)).astype("float32")
    y = np.zeros(images, "int32")
    graph = prune_keras.trace(model)
    scores = prune_keras.score(model, "l2")
    kept = kept_neurons(graph, prune_keras.select(graph, scores, target={"flops": 0.5}))

    def evaluate(count=images):
        model.evaluate(x[:count], y[:count], batch_size=BATCH, verbose=0)

    def refit():
        return Repair.of(model, graph, kept, Samples(x, BATCH), Refit(memory=gigabytes * 2**30))

    evaluate(BATCH)
    (peak, before), (refit_peak, refitted), (_, after) = (
        measuring.peak_bytes(functools.partial(spent, work)) for work in (evaluate, refit, evaluate)
    )
    seconds = measuring.median([before[0], after[0]])
    return {
        "network": name,
        "images": images,
        "gigabytes": gigabytes,
        "evaluate_cpu_seconds": round(seconds, 1),
        "refit_cpu_seconds": round(refitted[0], 1),
        "ratio": round(refitted[0] / seconds, 1),
        "evaluate_mb": round(peak / 2**20),
        "refit_mb": round(refit_peak / 2**20),
        "layers_as_they_were": sum(note.count(",") + 1 for note in refitted[1].notes),
    }


def spent(work):
    """Return the processor seconds that something takes, and what it returns."""
    begun = time.process_time()
    returned = work()
    return time.process_time() - begun, returned


if __name__ == "__main__":
    main()

"""What a cut costs and gains in `fit`: one more trace, then steps as much faster as FLOPs fell.

    python benchmarks/retracing.py

A network is fitted for two epochs on random samples; half of the neurons of every layer go before
the second one. The loss function counts how often the train step is traced.
"""

import argparse
import json
import time

import measuring

REPETITIONS = 3
NETWORKS = {"stack": (128, 12), "batch_norm_stack": (128, 12), "vgg16": (16, 8)}  # batch, batches


def main():
    rows = []
    for network in NETWORKS:
        found = [
            measuring.in_fresh_process(__file__, "--network", network) for _ in range(REPETITIONS)
        ]
        rows.append({"network": network} | measuring.medians(found))
    measuring.finish("retracing", rows, repetitions=REPETITIONS, vgg16_pixels=64)


def measure(network):
    """Return times of steps before and after a cut of one network, and how often it was traced."""
    import keras

    import prune_keras

    keras.utils.set_random_seed(measuring.SEED)
    model, (_, batches) = built(network), NETWORKS[network]
    flops = prune_keras.cost(model).flops
    times, traces, seconds = trained(model, *NETWORKS[network])
    before, after = measuring.median(times[1:batches]), measuring.median(times[batches + 1 :])
    return {
        "traces before": sum(at < batches for at in traces),
        "traces after": sum(at >= batches for at in traces),
        "seconds of the cut": seconds,
        "first step": times[0],
        "first step after": times[batches],
        "step": before,
        "step after": after,
        "time ratio": after / before,
        "flops ratio": prune_keras.cost(model).flops / flops,
    }


def trained(model, batch_size, batches):
    """Return the time of each step, the steps before each trace, and the time of the cut."""
    import keras
    import numpy as np

    from prune_keras.callbacks import ProgressivePruning

    times, traces = [], []

    def loss(labels, predicted):
        traces.append(len(times))
        return keras.losses.sparse_categorical_crossentropy(labels, predicted)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.begun = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            times.append(time.perf_counter() - self.begun)

    class CutBeforeSecondEpoch(ProgressivePruning):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                super().on_epoch_begin(epoch, logs)

    rng = np.random.default_rng(measuring.SEED)
    x = rng.uniform(0, 255, (batch_size * batches, *model.input_shape[1:])).astype("float32")
    y = rng.integers(0, 10, len(x))
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), loss)
    cut = CutBeforeSecondEpoch({"neurons": 0.4}, fraction=0.5, scope="uniform", verbose=0)
    model.fit(x, y, batch_size, epochs=2, verbose=0, callbacks=[cut, Clock()])
    return times, traces, cut.rounds[0].seconds


def built(network):
    import keras

    from prune_keras.models import networks

    if network == "vgg16":
        return keras.applications.VGG16(weights=None, input_shape=(64, 64, 3), classes=10)
    return getattr(networks, network)()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, help="measure it once, in this process")
    given = parser.parse_args()
    if given.network:
        print(json.dumps(measure(given.network)))
    else:
        main()

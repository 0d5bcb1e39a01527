"""How much shorter does a pass that scores take where several devices hold the model?

    KERAS_BACKEND=jax python benchmarks/scaling.py
    KERAS_BACKEND=tensorflow python benchmarks/scaling.py

On JAX: one device, two of one process, and two processes; on TensorFlow: one device, and two
replicas of a MirroredStrategy. Devices are those of the CPU, each with one thread, so that two of
them need two cores that nothing else uses. Rows of a backend replace those that the table has of
it: seconds that 1,024 samples take (a pass over 1,152 less one over the first 128, so that what is
compiled and prepared is not counted; the median of processes in turns), and how many times as fast
that is as on one device.
"""

import argparse
import csv
import json
import os
import socket
import subprocess
import sys

import measuring

TABLE = measuring.RESULTS.parent / "reliability" / "scaling.csv"
WAYS = {
    "jax": ("one device", "two devices", "two processes"),
    "tensorflow": ("one device", "two replicas"),
}
CRITERIA = "taylor", "reconstruction"
FEW, MANY, BATCH = 128, 1152, 128
PASSES = 3
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
XLA = "--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count="


def main(passes):
    import keras

    backend = keras.backend.backend()
    seen = [{way: measured(backend, way) for way in WAYS[backend]} for _ in range(passes)]
    rows = [row for row in stored() if row["backend"] != backend]
    for way in WAYS[backend]:
        for criterion in CRITERIA:
            one, took = (
                measuring.median(each[name][criterion] for each in seen)
                for name in ("one device", way)
            )
            rows.append({"backend": backend, "devices": way, "criterion": criterion})
            rows[-1] |= {"seconds": took, "times as fast as one": one / took}
            print(rows[-1], flush=True)
    measuring.write_table(TABLE, rows)
    measuring.write_settings(TABLE, samples=MANY - FEW, batch=BATCH, passes=passes)


def stored():
    if not TABLE.exists():
        return []
    with open(TABLE, newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def measured(backend, way):
    """Return the seconds of a pass by criterion, of the slower process where there are two."""
    count = 2 if way == "two devices" else 1
    environment = os.environ | ONE_THREAD | {"KERAS_BACKEND": backend, "XLA_FLAGS": f"{XLA}{count}"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [
        [sys.executable, __file__, "--in-process", way, str(place), str(port)]
        for place in range(2 if way == "two processes" else 1)
    ]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
        for command in commands
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"{way} ended in an error, which is printed above.")
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    return {name: max(each[name] for each in found) for name in CRITERIA}


def scored(way, place, port):
    """Return the seconds that samples take by criterion, without what every pass takes."""
    import numpy as np

    rng = np.random.default_rng(measuring.SEED)
    images = rng.normal(size=(MANY, 32, 32, 3)).astype("float32")
    held, size = (images, rng.integers(0, 10, MANY)), BATCH
    if way == "two processes":  # each holds its half of every batch
        held, size = tuple(part[place::2] for part in held), BATCH // 2
    model = ways()[way](place, port)
    few = tuple(part[: FEW * len(held[1]) // MANY] for part in held)
    return {
        name: seconds_of(model, name, held, size) - seconds_of(model, name, few, size)
        for name in CRITERIA
    }


def seconds_of(model, criterion, data, size):
    import prune_keras

    call = {"data": data, "data_batch_size": size}
    return measuring.seconds(lambda: prune_keras.score(model, criterion, **call))[0]


def ways():
    """Return how a model comes to lie on devices, by name."""
    return {
        "one device": lambda *_: network(),
        "two devices": lambda *_: shared_out(),
        "two processes": in_processes,
        "two replicas": lambda *_: mirrored(),
    }


def network():
    """Return a network of the size of a CIFAR-10 stack, with random weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(measuring.SEED)
    parts = [keras.Input((32, 32, 3))]
    for filters in (32, 64, 128):
        parts.append(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        parts.append(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        parts.append(layers.MaxPooling2D())
    parts += [layers.Flatten(), layers.Dense(256, activation="relu")]
    model = keras.Sequential([*parts, layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def shared_out():
    import keras

    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    return network()


def in_processes(place, port):
    import jax
    import keras

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    keras.distribution.initialize(f"127.0.0.1:{port}", 2, place)
    return shared_out()


def mirrored():
    import tensorflow as tf

    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        return network()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--in-process", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        way, place, port = given.in_process
        print(json.dumps(scored(way, int(place), int(port))))
    else:
        main(given.passes)

"""What trace, scores, a cut and training steps of VGG-16 take on a GPU.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --size 224 --batch 64
    python benchmarks/gpu.py --any-device --size 32 --batch 4 --samples 8 --repetitions 1 --output X

The network is that of `prune-keras cats-vs-dogs`, with random weights and photos, since only time
is measured; it is cut to half of its FLOPs. Training steps are timed before and after the cut, with
and without XLA (`jit_compile`) and TF32. Without a GPU the command stops, unless `--any-device`
says that it is only to be tried. Milliseconds are medians, with the least and the most, and those
of the first call, which compiles.
"""

import argparse
import statistics
import time
from pathlib import Path

import measuring

RESULTS = measuring.RESULTS.parent / "gpu"
CRITERIA = ("l2", "taylor", "reconstruction", "obs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="height and width of photos")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=256, help="photos to score and fit with")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--any-device", action="store_true", help="try it without a GPU")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    device = device_of(given.any_device)
    rows = [row | {"device": device} for row in measured(given)]
    path = given.output / "gpu.csv"
    for line in measuring.write_table(path, rows):
        print("  ".join(line))
    with_ = {name: getattr(given, name) for name in ("size", "batch", "samples", "repetitions")}
    print(measuring.write_settings(path, device=device, **with_))


def device_of(any_device):
    """Return the name of the first GPU; stop where there is none, unless another device will do."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if found:
        return tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU")
    if not any_device:
        raise SystemExit(
            "A GPU must be there that TensorFlow finds. Received: none. Install prune-keras[gpu] "
            "on a machine that has one, or pass --any-device to see whether the command runs."
        )
    return "CPU"


def measured(given):
    import numpy as np

    import prune_keras

    rng = np.random.default_rng(measuring.SEED)
    photos = rng.uniform(0, 255, (given.samples, given.size, given.size, 3)).astype("float32")
    data = photos, rng.integers(0, 2, given.samples)
    model = network(given)
    yield row("trace", given, lambda: prune_keras.trace(model))
    for criterion in CRITERIA:
        scored = scores(model, criterion, data, given)
        yield row(f"score {criterion}, {given.samples} photos", given, scored, 3)
    cut = {"target": {"flops": 0.5}, "criterion": "l2", "fuse": None}
    yield row("prune by l2", given, lambda: prune_keras.prune(model, **cut), 3)
    fitted = {"target": {"flops": 0.5}, "data": data, "data_batch_size": given.batch}
    yield row("prune as it is by default", given, lambda: prune_keras.prune(model, **fitted), 2)
    thin, _ = prune_keras.prune(model, **cut)
    for name, each in (("dense", model), ("thin", thin)):
        yield from steps(name, each, data, given)


def network(given):
    from prune_keras.models import vgg16

    return compiled(vgg16.build(given.size, weights=None), False)


def compiled(model, jit):
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return model


def scores(model, criterion, data, given):
    import prune_keras

    given_data = None if criterion == "l2" else data
    return lambda: prune_keras.score(model, criterion, given_data, data_batch_size=given.batch)


def steps(name, model, data, given):
    """Yield rows for a training step and a prediction, by what the device may do."""
    import tensorflow as tf

    x, y = (part[: given.batch] for part in data)
    for tf32 in (True, False):
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        for jit in (False, True):
            compiled(model, jit)
            how = f"{name}, TF32 {on(tf32)}, XLA {on(jit)}"
            yield row(f"training step, {how}", given, lambda: model.train_on_batch(x, y))
            yield row(f"prediction, {how}", given, lambda: model.predict_on_batch(x))
    tf.config.experimental.enable_tensor_float_32_execution(True)


def on(switch):
    return "on" if switch else "off"


def row(what, given, act, repetitions=None):
    """Return the milliseconds of a call: of the first one, and of those that follow."""
    first = milliseconds(act)
    times = [milliseconds(act) for _ in range(repetitions or given.repetitions)]
    middle = statistics.median(times)
    return {"what": what, "first": first, "median": middle, "least": min(times), "most": max(times)}


def milliseconds(act):
    begun = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - begun)


if __name__ == "__main__":
    main()

"""What trace, scores, a cut and training steps of VGG-16 take on a GPU, on each backend.

    KERAS_BACKEND=jax python benchmarks/gpu.py
    KERAS_BACKEND=torch python benchmarks/gpu.py --size 224 --batch 64
    python benchmarks/gpu.py --any-device --size 32 --batch 4 --samples 8 --repetitions 1 --output X

The network is that of `prune-keras cats-vs-dogs`, with random weights and photos, since only time
is measured; it is cut to half of its FLOPs, as it comes and to widths that are multiples of 32.
Training steps and predictions are timed before and after the cut, with and without TF32, and on
TensorFlow compiled by XLA, too; JAX always compiles, and PyTorch gives up after having compiled
each of Keras' layers anew. Without a GPU the command stops, unless `--any-device` says that it is
only to be tried. Milliseconds are medians, with the least and the most, and those of the first
call, which compiles. A table for each backend, which `--table` writes to the README beside it.
"""

import argparse
import statistics
import time
from pathlib import Path

import measuring
import tables
import tf32

RESULTS = measuring.RESULTS.parent / "gpu"
CRITERIA = ("l2", "taylor", "reconstruction", "obs")
HALF = {"target": {"flops": 0.5}}


def main():
    given = arguments()
    if given.table:
        show(given.output)
        return
    device = device_of(given.any_device)
    path = given.output / f"{measuring.backend()}.csv"
    with_ = {name: getattr(given, name) for name in ("size", "batch", "samples", "repetitions")}
    rows = []
    for row in measured(given):
        rows.append(row)
        print(row, flush=True)
        measuring.write_table(path, rows)
        measuring.write_settings(path, device=device, **with_)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="height and width of photos")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=256, help="photos to score and fit with")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--any-device", action="store_true", help="try it without a GPU")
    parser.add_argument("--table", action="store_true", help="write the README's table only")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def show(folder):
    """Write the table of this backend into the README of a folder, in milliseconds."""
    columns = ("what", "first", "median", "least", "most")
    lines = [
        [row["what"], *(said(float(row[name])) for name in columns[1:])]
        for row in tables.read(folder / f"{measuring.backend()}.csv")
    ]
    tables.fill(folder / "README.md", {measuring.backend(): tables.markdown(columns, lines)})


def said(milliseconds):
    """Return a number with at least three digits."""
    return f"{milliseconds:,.0f}" if milliseconds >= 1000 else f"{milliseconds:.3g}"


def device_of(any_device):
    """Return the name of the first GPU; stop where there is none, unless another device will do."""
    found = tf32.gpu()
    if found is None and not any_device:
        raise SystemExit(
            f"A GPU must be there that {measuring.backend()} finds. Received: none. Install this "
            "backend for CUDA on a machine that has one, or pass --any-device to see whether the "
            "command runs."
        )
    return found or "CPU"


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
        yield row(f"score {criterion}, {given.samples} photos", given, scored, 1)
    plain = HALF | {"criterion": "l2", "scope": "global", "fuse": None}
    yield row("prune by l2", given, lambda: prune_keras.prune(model, **plain), 1)
    networks = {
        "dense": model,
        "thin": prune_keras.prune(model, **plain)[0],
        "thin, in 32s": prune_keras.prune(model, **plain, round_to=32)[0],
    }
    for name, each in networks.items():
        yield from steps(name, each, data, given)
    fitted = HALF | {"data": data, "data_batch_size": given.batch}
    yield row("prune as it is by default", given, lambda: prune_keras.prune(model, **fitted), 1)


def network(given):
    from prune_keras.models import vgg16

    return compiled(vgg16.build(given.size, weights=None), False)


def compiled(model, jit):
    # JAX runs a model that is not compiled one operation after another.
    jit = jit or measuring.backend() == "jax"
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return model


def scores(model, criterion, data, given):
    import prune_keras

    given_data = None if criterion == "l2" else data
    return lambda: prune_keras.score(model, criterion, given_data, data_batch_size=given.batch)


def steps(name, model, data, given):
    """Yield rows for a training step and a prediction, by what the device may do."""
    x, y = (part[: given.batch] for part in data)
    compiles = ((True, True),) if measuring.backend() == "tensorflow" else ()
    for allowed, jit in ((True, False), (False, False), *compiles):
        with tf32.allowed(allowed):
            compiled(model, jit)
            how = f"{name}, TF32 {on(allowed)}" + ", XLA" * jit
            yield row(f"training step, {how}", given, lambda: model.train_on_batch(x, y))
            yield row(f"prediction, {how}", given, lambda: model.predict_on_batch(x))


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

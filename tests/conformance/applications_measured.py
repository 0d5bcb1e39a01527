"""What is found when a network of keras.applications is cut, exported and trained.

`measured` runs one network through everything and returns a row of numbers; `shortcomings` says
which promises they break. `benchmarks/conformance.py` writes the rows of all networks as a table,
`test_applications.py` runs the small ones.
"""

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import keras
import numpy as np
from applications import PIXELS, SAMPLES, adjust, build, finalize, images, settle
from keras import ops
from networks import floats, outputs_of
from silenced import Silenced

import prune_keras
from prune_keras import _keras

# A deep cut by scores may leave one channel: layer normalization over it is constant, and a dead
# one has no variance to normalize by. Nothing but rounding is left to compare then.
MIN_UNITS = {"convnext": 8, "resnet152": 8}
CUTS = {"half at random": 0.5, "30 % by l2": 0.3, "70 % by l2": 0.7}
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
SUFFIXES = (".keras", ".h5")


def measured(name: str) -> dict:
    """Return a row of all that is measured of one network."""
    begun = time.perf_counter()
    with floats("float64"):
        model = build(name)
        settle(model)
        row = {"network": name, "pixels": PIXELS[name], "params": model.count_params()}
        seconds, graph = _timed(lambda: prune_keras.trace(model))
        row |= {"trace seconds": seconds, **reach(model, graph)}
        plans = {cut: planned(model, graph, cut) for cut in CUTS}
    with floats("float32"):
        narrow = build(name)
    found, (thin, thin_narrow) = exactness(model, narrow, plans)
    row |= found | exported(thin_narrow)
    del narrow, thin_narrow
    with floats("float64"):
        row |= one_step(model, thin)
    return row | {"seconds": time.perf_counter() - begun}


def _timed(function) -> tuple:
    begun = time.perf_counter()
    returned = function()
    return time.perf_counter() - begun, returned


def reach(model, graph) -> dict:
    """Return which share of units and parameters can be pruned, and why the rest cannot."""
    units = sum(len(made.neurons) for made in graph.producers.values())
    left = sum(fixed.units for fixed in graph.fixed)
    prunable = np.concatenate([family.neurons for family in graph.families])
    params = whole = model.count_params()
    for weight in graph.weights:
        sizes = list(weight.variable.shape)
        params -= int(np.prod(sizes))
        for axis, neurons in weight.axes.items():
            sizes[axis] = int((~np.isin(neurons, prunable)).sum())
        params += int(np.prod(sizes))
    reasons = sorted({f"{fixed.path}: {fixed.reason}" for fixed in graph.fixed})
    return {
        "units": units,
        "units reached": 1 - left / units,
        "params reached": 1 - params / whole,
        "fixed": "; ".join(reasons),
    }


def planned(model, graph, cut: str):
    """Return the plan of one of `CUTS`."""
    criterion = "l2" if "l2" in cut else "random"
    scores = prune_keras.score(model, criterion, seed=0)
    least = next((n for kind, n in MIN_UNITS.items() if model.name.startswith(kind)), 1)
    return prune_keras.select(graph, scores, fraction=CUTS[cut], min_units=least)


def exactness(model, narrow, plans) -> tuple[dict, tuple]:
    """Compare thin models with the silenced original, in both float types.

    Returns:
        What was found, and the thin models of the first plan.
    """
    x = images(model, SAMPLES, seed=1)
    (whole,) = outputs_of(model, [x])
    row, first = {"largest output": float(np.abs(whole).max())}, None
    for cut, plan in plans.items():
        with floats("float64"):
            thin, silenced = prune_keras.shrink(model, plan), Silenced(model, plan)
            suit(model, thin, silenced)
            row[f"float64 {cut}"], expected = compared(thin, silenced, x)
        with floats("float32"):
            for old, new in zip(model.variables, narrow.variables, strict=True):
                new.assign(ops.cast(old.value, new.dtype))
            finalize(narrow)
            thin_narrow = prune_keras.shrink(narrow, plan)
            row[f"float32 {cut}"], rounded = compared(thin_narrow, Silenced(narrow, plan), x)
        row[f"rounding {cut}"] = difference(rounded, expected)
        row[f"deviation {cut}"] = float(expected.std(axis=0).max() / np.abs(expected).max())
        row[f"change {cut}"] = difference(expected, whole)
        first = first or (thin, thin_narrow)
    return row, first


def suit(model, thin, silenced) -> None:
    """Give batch normalization, in both models, statistics that suit what a plan leaves.

    With others, a deep cut leaves outputs without a trace of the inputs, and nothing to compare.
    """
    adjust(thin, np.random.default_rng(4), kernels=False)
    for old, new in zip(model.variables, thin.variables, strict=True):
        if old.name.startswith("moving_"):
            value = np.array(old)
            value[silenced.kept[id(old)][0]] = new
            old.assign(value)


def compared(thin, silenced, x) -> tuple:
    """Return how far the thin model is from the silenced one, and what the latter gives."""
    x = x.astype(thin.inputs[0].dtype)
    (expected,), (found,) = silenced.outputs([x]), outputs_of(thin, [x])
    return difference(found, expected), expected


def difference(found, expected) -> float:
    """Return how far outputs are apart, relative to the largest one."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


class Observed(keras.optimizers.SGD):
    """Plain gradient descent that keeps the largest entry of every gradient it is given."""

    def apply(self, grads, trainable_variables=None):
        self.seen = [None if g is None else float(ops.max(ops.abs(g))) for g in grads]
        super().apply(grads, trainable_variables)


def one_step(model, thin) -> dict:
    """Train the thin model for one step, and the original for comparison."""
    loss, seen, idle = fitted(thin)
    _, _, idle_before = fitted(model)
    return {
        "loss": loss,
        "gradients": len(seen),
        "gradients not finite": sum(g is None or not np.isfinite(g) for g in seen),
        "gradients of zero": len(idle),
        "of shifts": sum(path.endswith(("/bias", "/beta")) for path in idle),
        "of zero in the original too": len(idle & idle_before),
    }


def fitted(model) -> tuple[float, list, set[str]]:
    """Return the loss of a step, the largest entry of each gradient, and weights without one.

    What shifts a channel ahead of a normalization, which cancels it, has a gradient of rounding
    errors, tiny beside that of the other weights of its layer.
    """
    rng, x = np.random.default_rng(2), images(model, 2 * SAMPLES, seed=2)
    y = rng.normal(size=(len(x), *model.output_shape[1:]))
    model.compile(Observed(1e-3), loss="mse", run_eagerly=True)
    loss = model.fit(x, y, batch_size=len(x), verbose=0).history["loss"][0]
    seen, of_layer = model.optimizer.seen, defaultdict(float)
    paths = [variable.path for variable in model.trainable_variables]
    for path, size in zip(paths, seen, strict=True):
        of_layer[path.rpartition("/")[0]] = max(of_layer[path.rpartition("/")[0]], size or 0)
    idle = {
        path
        for path, size in zip(paths, seen, strict=True)
        if not size or size <= 1e-9 * of_layer[path.rpartition("/")[0]]
    }
    return loss, seen, idle


def exported(model) -> dict:
    """Write a model in both formats; `export` compares all weights and the outputs read back."""
    with tempfile.TemporaryDirectory() as folder:
        return {suffix: _exported(model, Path(folder) / f"model{suffix}") for suffix in SUFFIXES}


def _exported(model, path: Path) -> str:
    try:
        prune_keras.export(model, path)
    except ValueError as error:
        named = [op.name for op in _keras.operations_in(model) if f"'{op.name}'" in str(error)]
        return f"refused: {named[0]}" if named and ".keras" in str(error) else f"failed: {error}"
    return "equal"


def shortcomings(row: dict) -> list[str]:
    """Return the promises that the numbers of a row break."""
    holds = {
        "outputs are of a sensible size": 0.1 < row["largest output"] < 100,
        "all but the classifier can be pruned": row["fixed"].count(": ") == 1
        and row["fixed"].endswith("they are an output of the model"),
        "the loss is finite": np.isfinite(row["loss"]),
        "all gradients are finite": row["gradients not finite"] == 0,
        "no gradient is zero that was not": row["gradients of zero"]
        == row["of zero in the original too"],
        "only shifts have no gradient": row["gradients of zero"] == row["of shifts"],
        ".keras is read back": row[".keras"] == "equal",
        ".h5 is read back or refused": row[".h5"].startswith(("equal", "refused: ")),
    }
    for cut in CUTS:
        # Far above the bound of float64, by which alone a share so small is compared.
        holds[f"outputs follow inputs, {cut}"] = row[f"deviation {cut}"] > 1e-5
        holds[f"the cut matters, {cut}"] = row[f"change {cut}"] > 1e-3
        holds[f"float64, {cut}"] = row[f"float64 {cut}"] <= TOLERANCE["float64"]
        # Where float32 and float64 are farther apart than that, so may be two ways to compute.
        bound = max(TOLERANCE["float32"], 3 * row[f"rounding {cut}"])
        holds[f"float32, {cut}"] = row[f"float32 {cut}"] <= bound
    return [promise for promise, held in holds.items() if not held]

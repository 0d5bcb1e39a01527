"""What must hold where channels pass alone: removing one is zeroing the rows that read it.

The models have a layer `a` that makes channels and a Dense `read` whose rows read them, with what
is tried in between; the reference is the model itself with zeros for those rows.
"""

import keras
import numpy as np
from networks import outputs_of, randomize, samples

import prune_keras

KEPT = (0, 2, 3)


def between(make, shape=(6, 3), units=5, **arguments):
    """Return a model of `a`, what is tried, and `read`."""
    inputs = keras.Input(shape)
    x = make(keras.layers.Dense(units, name="a", **arguments)(inputs))
    x = keras.layers.Dense(3, name="read", activation="tanh")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(x))
    randomize(model)
    return model


def reason(model, path="a"):
    fixed = prune_keras.trace(model).fixed
    return next((each.reason for each in fixed if each.path == path), "")


def check_rows(model, tmp_path=None, rows=lambda unit: [unit], x=None, copied=True):
    """Remove some of the units of `a`: in a copy, in place, and read back from a file."""
    graph = prune_keras.trace(model)
    assert graph.producers["a"].prunable.all(), graph.fixed
    everything = prune_keras.Plan.everything(graph.widths).kept
    made = graph.producers["a"].neurons
    joined = [path for path, p in graph.producers.items() if np.array_equal(p.neurons, made)]
    plan = prune_keras.Plan({**everything, **dict.fromkeys(joined, KEPT)}, graph.widths)
    x = samples(model) if x is None else x
    found = [prune_keras.shrink(model, plan)] if copied else []
    gone = (unit for unit in range(graph.widths["a"]) if unit not in KEPT)
    silence(model, [row for unit in gone for row in rows(unit)])
    expected = outputs_of(model, x)
    prune_keras.shrink_in_place(model, plan)
    found.append(model)
    assert {each.get_layer("a").units for each in found} == {len(KEPT)}
    if tmp_path is not None:
        model.save(tmp_path / "thin.keras")
        found.append(keras.models.load_model(tmp_path / "thin.keras", safe_mode=False))
    for each in found:
        for a, b in zip(outputs_of(each, x), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
    return model


def silence(model, rows):
    kernel = model.get_layer("read").kernel
    value = np.array(keras.ops.convert_to_numpy(kernel))
    value[rows] = 0
    kernel.assign(value)

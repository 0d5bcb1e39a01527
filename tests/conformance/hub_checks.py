"""What is checked of backbones of KerasHub, where they stand and unfolded into Keras' layers."""

import contextlib
import subprocess
import sys
from pathlib import Path

import composites_checks
import hub_backbones
import keras
import numpy as np
from composites import Composite
from keras import ops
from keras.src.ops.numpy import Mean

import prune_keras

READER = Path(__file__).parent / "hub_reader.py"


def composite(name, unfolded=False):
    """Return a backbone with a head, as it is or unfolded into one flat graph."""

    def build():
        model = hub_backbones.with_head(name)
        return prune_keras.unfold(model, flat=True) if unfolded else model

    return Composite(name, build, lambda count: (hub_backbones.samples(name), None))


@contextlib.contextmanager
def silenced(model, kept):
    """Do what `composites_checks.silenced` does; means that are operations of a graph, too."""
    call = Mean.call

    def mean(self, x):
        whole = call(self, x)
        if np.atleast_1d(self.axis).tolist() not in ([-1], [len(x.shape) - 1]):
            return whole
        left = ops.any(x != 0, axis=tuple(range(len(x.shape) - 1)))
        return whole * (x.shape[-1] / ops.sum(ops.cast(left, whole.dtype)))

    try:
        Mean.call = mean
        with composites_checks.silenced(model, kept):
            yield
    finally:
        Mean.call = call


def is_plain(model):
    """Tell whether all layers are Keras' own."""
    return all(type(each).__module__.startswith("keras.") for each in model._flatten_layers())


def read_elsewhere(models, folder):
    """Save models, and read them in one process that can import neither KerasHub nor prune_keras.

    Args:
        models: name -> model, for `hub_backbones.samples` of that name.
        folder: where the files are written.

    Returns:
        name -> `(path, outputs)`.
    """
    paths = {}
    for name, model in models.items():
        path = paths[name] = folder / f"{name.replace(' ', '_')}.keras"
        model.save(path)
        np.savez(path.with_suffix(".npz"), *keras.tree.flatten(hub_backbones.samples(name)))
    command = [sys.executable, str(READER), *map(str, paths.values())]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603, of this checkout
    made = {name: np.load(path.with_suffix(".out.npz")) for name, path in paths.items()}
    return {name: (paths[name], [*arrays.values()]) for name, arrays in made.items()}

"""What is checked of backbones of KerasHub, where they stand and unfolded into Keras' layers."""

import subprocess
import sys
from pathlib import Path

import hub_backbones
import keras
import numpy as np
from composites import Composite

import prune_keras

READER = Path(__file__).parent / "hub_reader.py"


def composite(name, unfolded=False):
    """Return a backbone with a head, as it is or unfolded into one flat graph."""

    def build():
        model = hub_backbones.with_head(name)
        return prune_keras.unfold(model, flat=True) if unfolded else model

    return Composite(name, build, lambda count: (hub_backbones.samples(name), None))


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

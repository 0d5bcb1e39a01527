"""Fits whose metrics are told beforehand, and what a cut must have left of a state."""

import re

import keras
import numpy as np


class Script(keras.callbacks.Callback):
    """Puts the metrics that were told beforehand into the logs, where there was a validation."""

    def __init__(self, monitor, levels):
        super().__init__()
        self.monitor, self.levels = monitor, iter(levels)

    def on_epoch_end(self, epoch, logs=None):
        level = next(self.levels)
        assert (level is not None) == (self.monitor in logs)
        if level is not None:
            logs[self.monitor] = level


def sliced(path, value, plan):
    """Return what a plan keeps of a variable, told by the name of its layer in the path."""
    kept = {path.split("/")[-1]: indices for path, indices in plan.kept.items()}
    sources = {"hidden0": None, "hidden1": "hidden0", "hidden": "conv", "conv": None}
    last = "hidden1" if "hidden1" in kept else "hidden"
    sources |= {"norm": None, "classes": last, "level": last}
    name = re.search(rf"(?:^|[/_])({'|'.join(sources)})[/_]", path)
    if name is None or value.ndim == 0:
        return value
    own = kept.get("conv" if name[1] == "norm" else name[1])
    value = value if own is None else value.take(own, -1)
    source = kept.get(sources[name[1]])
    return value if source is None or value.ndim == 1 else value.take(source, -2)


def assert_sliced(state, cut, plan, measured):
    """Check that a state is cut as the plan says, apart from statistics if they are measured."""
    assert state.keys() == cut.keys()
    for path, value in state.items():
        if isinstance(value, np.ndarray) and not (measured and "moving" in path):
            np.testing.assert_array_equal(cut[path], sliced(path, value, plan), err_msg=path)

"""Cuts without end: what a cut leaves behind is freed."""

import ctypes
import gc
from collections import Counter

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, callback, conv_model, fit, neurons

import prune_keras
from prune_keras import _keras
from prune_keras._backend.arrays import SHAPES
from prune_keras.rounds.progress import Progress


def living(kind):
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects())[kind]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts TensorFlow's graphs")
@pytest.mark.parametrize(
    "criterion",
    ["taylor", *(pytest.param(each, marks=pytest.mark.slow) for each in ("l2", "apoz"))],
)
def test_graphs_of_functions_from_before_a_cut_are_freed(criterion):
    model, alive = conv_model(), []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: alive.append(living("FuncGraph"))
    )
    pruning = callback(fraction=0.01, criterion=criterion, data=(IMAGES, LABELS))
    fit(model, pruning, count, epochs=6)
    assert len(pruning.rounds) == 6
    assert alive[1:] == [alive[1]] * 5


@pytest.mark.slow
def test_variables_from_before_a_cut_are_freed():
    model = conv_model()
    fit(model, epochs=1)
    progress = Progress(model, prune_keras.trace(model))
    alive = []
    for turn in range(10):
        if turn % 5 == 0:
            progress.go_back()
        scores = prune_keras.score(model)
        progress.cut(model, prune_keras.select(progress.graph, scores, fraction=0.1))
        model.train_on_batch(IMAGES, LABELS)
        alive.append(living(type(model.layers[1].kernel.value).__name__))
    assert neurons(model) < 14
    assert len(set(alive[4:])) == 1


class Mallinfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in names.split())


def allocated():
    """Return the bytes that the process has asked the C library for and not freed."""
    try:
        mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        pytest.skip("asks glibc for what is allocated")
    mallinfo.restype = Mallinfo
    return mallinfo().uordblks


def test_operations_on_variables_of_former_shapes_are_freed():
    variable = keras.Variable(np.zeros(1, "float32"))
    most = []
    for turn in range(3):
        taken = []
        for size in range(2 + turn * SHAPES, 2 + (turn + 1) * SHAPES):
            _keras.set_value(variable, np.zeros(size, "float32"))
            if size % 8 == 0:
                taken.append(allocated())
        most.append(max(taken))
    assert most[2] - most[1] < 4e6


def test_a_function_of_the_user_stays_whole():
    tf = pytest.importorskip("tensorflow")
    double = tf.function(lambda x: 2 * x)

    class Doubling(keras.Model):
        def train_step(self, data):
            x, y = data
            return super().train_step((double(x) / 2, y))

    inner = conv_model()
    model = Doubling(inner.inputs, inner.outputs)
    del inner
    model.compile("adam", "sparse_categorical_crossentropy")
    fit(model, callback(monitor="loss"), epochs=3)
    assert neurons(model) == 7
    np.testing.assert_array_equal(double(tf.ones(2)), [2, 2])

"""What a student learns from its teacher: losses and their gradients against NumPy."""

import numpy as np
import pytest
from keras import ops

from prune_keras import _backend
from prune_keras.teaching.losses import Attention, Factored, Features, Softened

RNG = np.random.default_rng(0)
TEMPERATURE = 3.0


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def of_one_class(t, s):
    p, q = softmax(t / TEMPERATURE), softmax(s / TEMPERATURE)
    return TEMPERATURE**2 * np.mean(np.sum(p * np.log(p / q), -1))


def of_each_class(t, s):
    p, q = sigmoid(t / TEMPERATURE), sigmoid(s / TEMPERATURE)
    return TEMPERATURE**2 * np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def of_probabilities(t, s):
    return of_one_class(np.log(t), np.log(s))


def of_chances(t, s):
    return of_each_class(*(np.log(y) - np.log(1 - y) for y in (t, s)))


def of_values(t, s):
    return np.mean((t - s) ** 2)


def of_features(t, s):
    return np.sum((t - s) ** 2) / np.sum(t**2)


def of_attention(t, s):
    def looked(y):
        energy = np.mean(y**2, -1).reshape(len(y), -1)
        return energy / np.linalg.norm(energy, axis=-1, keepdims=True)

    return np.mean((looked(t) - looked(s)) ** 2)


def of_factors(t, s):
    t, s = (y.reshape(len(y), -1) for y in (t, s))
    t, s = (y / np.linalg.norm(y, axis=-1, keepdims=True) for y in (t, s))
    return np.mean(np.abs(t - s))


def drawn(shape, inside=None):
    t, s = RNG.normal(size=(2, *shape))
    return (t, s) if inside is None else (inside(t), inside(s))


CASES = {
    "softmax": (Softened("softmax", temperature=TEMPERATURE), of_one_class, (4, 5), None),
    "probabilities": (
        Softened("softmax", (True, True), TEMPERATURE),
        of_probabilities,
        (4, 5),
        softmax,
    ),
    "maps of classes": (
        Softened("softmax", temperature=TEMPERATURE),
        of_one_class,
        (2, 3, 3, 4),
        None,
    ),
    "sigmoid": (Softened("sigmoid", temperature=TEMPERATURE), of_each_class, (4, 5), None),
    "chances": (Softened("sigmoid", (True, True), TEMPERATURE), of_chances, (4, 5), sigmoid),
    "values": (Softened("values"), of_values, (4, 5), None),
    "features": (Features(), of_features, (2, 3, 3, 4), None),
    "attention": (Attention(), of_attention, (2, 3, 3, 4), None),
    "factors": (Factored(), of_factors, (2, 3, 3, 4), None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_loss_and_its_gradient_are_those_of_numpy(case):
    loss, reference, shape, inside = CASES[case]
    teacher, student = drawn(shape, inside)
    told, said = (ops.convert_to_tensor(y, "float32") for y in (teacher, student))
    assert float(loss(told, said)) == pytest.approx(reference(teacher, student), rel=1e-4)
    found = _backend.gradients(lambda x: loss(told, x["s"]), {"s": said})["s"]
    found, wanted = ops.convert_to_numpy(found), slopes(reference, teacher, student)
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-5)


def slopes(reference, teacher, student, step=1e-5):
    """Central differences of a reference by each entry of what the student says."""
    found = np.zeros_like(student)
    for place in np.ndindex(student.shape):
        nudge = np.zeros_like(student)
        nudge[place] = step
        found[place] = reference(teacher, student + nudge) - reference(teacher, student - nudge)
    return found / (2 * step)


@pytest.mark.parametrize("case", CASES)
def test_of_two_alike_nothing_is_to_be_learnt(case):
    loss, _, shape, inside = CASES[case]
    told = ops.convert_to_tensor(drawn(shape, inside)[0], "float32")
    assert float(loss(told, told)) == pytest.approx(0, abs=1e-6)
    found = _backend.gradients(lambda x: loss(told, x["s"]), {"s": told})["s"]
    np.testing.assert_allclose(ops.convert_to_numpy(found), 0, atol=1e-6)

"""A teacher of masked sequences: what stands behind their ends is nothing that is learnt of."""

import keras
import numpy as np
import pytest

from prune_keras.callbacks import Distillation, Factors, Teacher
from prune_keras.plan import Plan
from prune_keras.teaching.comparing import Comparison
from prune_keras.teaching.masked import meaning, of_meant, without
from prune_keras.teaching.transfer import Transfer
from prune_keras.tracing import trace

LENGTHS = np.array([2, 5, 1, 3, 5, 4, 2, 3])
EAGERLY = keras.backend.backend() != "jax"  # where a graph takes longer to make than to run
TERMS = {
    "features": {"features": 1.0},
    "attention": {"attention": 1.0},
    "both": {"features": 0.5, "attention": 10.0},
}


def texts(length):
    drawn = np.random.default_rng(0).integers(1, 20, (len(LENGTHS), 5))
    drawn[np.arange(5) >= LENGTHS[:, None]] = 0
    return np.pad(drawn, ((0, 0), (0, length - 5)))


def network(length, seed, width=4):
    """The same weights for each seed, whatever the length."""
    keras.utils.set_random_seed(seed)
    given = keras.Input((length,))
    x = keras.layers.Embedding(20, width, mask_zero=True, name="words")(given)
    x = keras.layers.GRU(width, return_sequences=True, name="maps")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(given, keras.layers.Dense(3, activation="softmax", name="classes")(x))


def learnt(length, batch_size, terms, count=8):
    """Return what a resting student's loss has of its teacher, over whole batches."""
    student, teacher = network(length, 0), network(length, 1)
    student.compile(
        keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", run_eagerly=EAGERLY
    )
    x, y = texts(length)[:count], np.arange(count) % 3
    given = {"batch_size": batch_size, "shuffle": False, "verbose": 0}
    taught = Distillation(Teacher(teacher, logits=0.0, layers=["maps"], **terms))
    fitted = student.fit(x, y, callbacks=[taught], **given).history["loss"][0]
    alone = student.evaluate(x, y, batch_size=batch_size, verbose=0)
    maps = [keras.Model(each.input, each.get_layer("maps").output) for each in (teacher, student)]
    return fitted - alone, [each.predict(x, verbose=0) for each in maps]


def of_features(told, said, lengths):
    meant = np.arange(told.shape[1]) < lengths[:, None]
    return np.sum((told - said)[meant] ** 2) / np.sum(told[meant] ** 2)


def of_attention(told, said, lengths):
    """The mean over sequences, each cut to its length, as if there was no mask."""
    losses = []
    for one, other, length in zip(told, said, lengths, strict=True):
        looked = [np.mean(each[:length] ** 2, -1) for each in (one, other)]
        one, other = (each / np.linalg.norm(each) for each in looked)
        losses.append(np.mean((one - other) ** 2))
    return np.mean(losses)


REFERENCES = {"features": of_features, "attention": of_attention}


@pytest.mark.parametrize("term", REFERENCES)
@pytest.mark.parametrize("batch_size", [8, 4, 5])
def test_what_is_learnt_is_that_of_sequences_cut_to_their_lengths(term, batch_size):
    """Of batches as large as sequences are long, too, for which positions pass for samples."""
    count = batch_size * (8 // batch_size)
    found, maps = learnt(5, batch_size, TERMS[term], count)
    reference = REFERENCES[term]
    parts = [slice(start, start + batch_size) for start in range(0, count, batch_size)]
    expected = np.mean([reference(*(y[part] for y in maps), LENGTHS[part]) for part in parts])
    assert found == pytest.approx(expected, rel=1e-3)


def test_it_does_not_depend_on_how_far_batches_are_padded():
    one, other = (learnt(length, 4, TERMS["both"])[0] for length in (5, 9))
    assert one > 0.01 and one == pytest.approx(other, rel=1e-3)


def test_factors_are_of_what_is_not_masked():
    """What stands at masked positions changes neither the loss nor what the paraphraser sees."""
    teacher, student = network(5, 1), network(5, 0)
    asked = Factors(texts(5), layers="maps", optimizer=keras.optimizers.SGD(0.0))
    transfer = Transfer(asked, teacher, student, trace(student))
    masked = texts(5) == 0
    assert not transfer._features()[masked].any() and transfer._features()[~masked].any()
    maps = keras.Model(student.input, student.get_layer("maps").output)
    said = maps(texts(5))
    told = keras.ops.convert_to_numpy(said)[:, ::-1] * 2
    losses = []
    for noise in (0.0, 9.0):
        told = told + noise * masked[..., None]
        given = keras.ops.convert_to_tensor(told)
        losses.append(float(keras.ops.convert_to_numpy(transfer.loss(given, said, np.ones(4) > 0))))
    assert losses[0] > 0 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    student.compile("adam", "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    taught = Distillation(Teacher(teacher, factors=Factors(texts(5), layers="maps", epochs=1)))
    fitted = student.fit(texts(5), np.arange(8) % 3, callbacks=[taught], verbose=0)
    assert np.isfinite(fitted.history["loss"]).all()


def test_a_mask_that_is_not_of_positions_is_left_out():
    """Of channels in front, or of other sizes; and nothing that is compared carries it on."""
    model = network(5, 0)
    said = keras.Model(model.input, model.get_layer("maps").output)(texts(5))
    assert meaning(said, 1) is None and meaning(said, None).shape == (8, 5, 1)
    assert meaning(without(said, None), 2) is None
    means = keras.ops.ones((8,))
    assert of_meant(means, None) is means
    shares = keras.ops.convert_to_numpy(of_meant(means, meaning(said, 2)))
    np.testing.assert_allclose(shares, 5 / LENGTHS, rtol=1e-5)


def test_a_sequence_that_is_all_masked_teaches_nothing():
    x = texts(5)
    x[:4] = 0
    student, teacher = network(5, 0), network(5, 1)
    asked = Teacher(teacher, features=1.0, attention=1.0, layers=["maps"])
    comparison = Comparison.of(asked, teacher, student, Plan.everything(trace(student).widths))
    for who, model in (("teacher", teacher), ("student", student)):
        maps = keras.Model(model.input, model.get_layer("maps").output)
        comparison.hear(who, [maps(x)])
    weights = keras.ops.convert_to_tensor(np.repeat([1.0, 0.0], 4), "float32")
    assert float(keras.ops.convert_to_numpy(comparison.loss(weights))) == 0

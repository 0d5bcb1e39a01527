"""Rules that are wrong: the error names the layer, what must hold, and what came instead."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras.tracing.rules.registry import _RULES


class Scale(layers.Layer):
    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), name="gamma")

    def call(self, x):
        return x * self.gamma


@pytest.fixture
def trace():
    """Give a function that traces a model in which a layer has the given rule."""

    def trace(rule):
        prune_keras.register_rule(Scale)(rule)
        inputs = keras.Input((5, 4))
        x = Scale(name="scale")(layers.Dense(6, name="a")(inputs))
        return prune_keras.trace(keras.Model(inputs, layers.Dense(2)(x)))

    yield trace
    _RULES.pop(Scale, None)


def recorded(visit, trace):
    channels = trace.along(visit.input, -1, visit.path)
    trace.weight(visit, visit.operation.gamma, {0: channels})
    return channels


def test_a_right_rule_raises_nothing(trace):
    assert trace(lambda visit, trace: visit.output(recorded(visit, trace))).neurons == 6


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda ids: None, "NoneType None for an output of shape"),
        (lambda ids: ids, r"ids of shape \(6,\) for an output of shape \(5, 6\)"),
        (lambda ids: ids[None, :4], r"ids of shape \(1, 4\)"),
        (lambda ids: ids[None] + 0.5, "ndarray array.*for an output"),
        (lambda ids: ids[None] + 1000, "ids .*has not given out"),
        (lambda ids: (ids[None],), "tuple "),
    ],
    ids=["nothing", "rank", "size", "floats", "foreign", "tuple"],
)
def test_what_a_rule_returns_must_fit(trace, returned, message):
    expected = rf"(?s)The rule of 'scale' \(Scale\) must return .*rank 2.*Received: {message}"
    with pytest.raises(ValueError, match=expected):
        trace(lambda visit, trace: returned(recorded(visit, trace)))


@pytest.mark.parametrize(
    ("axes", "reads", "message"),
    [
        ({0: np.arange(3)}, (), r"ids of shape \(3,\) for axis 0"),
        ({1: np.arange(6)}, (), "axis 1"),
        ({}, (0,), r"reads=\(0,\) and no ids"),
    ],
)
def test_ids_must_fit_the_weight(trace, axes, reads, message):
    expected = r"'scale' \(Scale\) must give one id.*'gamma' of shape \(6,\). Received: "
    with pytest.raises(ValueError, match=expected + message):
        trace(lambda visit, trace: trace.weight(visit, visit.operation.gamma, axes, reads))


def test_a_forgotten_weight_is_the_reason_why_channels_stay(trace):
    graph = trace(lambda visit, trace: trace.pointwise(visit))
    reason = "the rule of scale does not record its weight gamma of shape (6,)"
    assert next(fixed.reason for fixed in graph.fixed if fixed.path == "a") == reason


def test_outputs_that_a_rule_does_not_know_are_the_reason_why_channels_stay(trace):
    graph = trace(lambda visit, trace: [visit.output(recorded(visit, trace))] * 2)
    (reason,) = (fixed.reason for fixed in graph.fixed if fixed.path == "a")
    assert reason == "scale has 1 outputs, and its rule returns ids of 2"


def test_a_setting_must_be_there(trace):
    def rule(visit, trace):
        trace.setting(visit.operation, "unit", recorded(visit, trace))

    with pytest.raises(ValueError, match=r"'unit' of 'scale' \(Scale\).*Scale has no 'unit'"):
        trace(rule)


def test_an_error_in_a_rule_names_the_layer(trace):
    with pytest.raises(AttributeError) as raised:
        trace(lambda visit, trace: visit.operation.scale)
    assert "in the rule of 'scale' (Scale)" in raised.value.__notes__[0]


@keras.saving.register_keras_serializable("rules")
class Project(keras.layers.Layer):
    """A Dense layer of one's own, whose rule leaves out all that it may."""

    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.units = units

    def get_config(self):
        return super().get_config() | {"units": self.units}

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x):
        return x @ self.kernel

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)


def project(visit, trace):
    units = trace.units(visit, visit.operation.kernel, 1)
    channels, times = trace.along(visit.input, -1, visit.path), visit.input.positions(-1)
    axes, scale = {0: channels, 1: units}, (channels, lambda kept: 2.0)
    trace.weight(visit, visit.operation.kernel, axes, (0,), times, scale)
    trace.setting(visit.operation, "units", units)
    return visit.output(units)


def test_a_rule_runs_alike_where_its_layer_is_called_on_slices(monkeypatch):
    monkeypatch.setitem(_RULES, Project, project)
    inputs = keras.Input((5, 4))
    x = keras.layers.TimeDistributed(Project(6, name="project"))(inputs)
    x = keras.layers.TimeDistributed(Project(3))(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x))
    graph = prune_keras.trace(model)
    assert list(graph.widths.values()) == [6]
    assert graph.cost.flops == 2 * 5 * (4 * 6 + 6 * 3)
    scores = {path: np.arange(6.0) for path in graph.widths}
    thin = prune_keras.shrink(model, prune_keras.select(graph, scores, fraction=0.5))
    first, second = (layer.layer for layer in model.layers[1:3])
    kernels = [layer.layer.kernel.numpy() for layer in thin.layers[1:3]]
    np.testing.assert_array_equal(kernels[0], 2 * first.kernel.numpy()[:, 3:])
    np.testing.assert_array_equal(kernels[1], 2 * second.kernel.numpy()[3:])


def test_only_classes_have_rules():
    with pytest.raises(ValueError, match="classes of layers or operations. Received: .*scale"):
        prune_keras.register_rule(Scale(name="scale"))
    with pytest.raises(ValueError, match="at least one class"):
        prune_keras.register_rule()

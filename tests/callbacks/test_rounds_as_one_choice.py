"""Rounds choose as one choice would: by the names of families, shares and steps of the start."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras.callbacks import Judge, ProgressivePruning
from prune_keras.debias import Affine

X, Y = np.ones((8, 4), "float32"), np.ones((8, 2), "float32")


def pruned(model, y=Y, epochs=15, **arguments):
    pruning = ProgressivePruning(verbose=0, **arguments)
    model.fit(X, y, epochs=epochs, verbose=0, callbacks=[pruning])
    return pruning


def net(*widths):
    """Return a model of dense layers whose weights grow from unit to unit."""
    keras.utils.set_random_seed(0)
    names = (layers.Dense(width, name=name) for width, name in zip(widths, "abcdef", strict=False))
    model = keras.Sequential([keras.Input((4,)), *names, layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def test_families_keep_their_names_when_a_cut_puts_them_in_another_order():
    # The outer family, channels 0 to 3 and 12 to 15, comes first as long as channel 0 is there.
    x = keras.Input((4,))
    h = layers.Dense(16, name="a")(x)
    outputs = [layers.Dense(2)(h), layers.Dense(50)(h[:, 4:12])]
    model = keras.Model(x, outputs)
    kernel = model.get_layer("a").kernel
    kernel.assign(np.arange(1, 17) / 16 * np.ones((4, 1)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    inner_stays = Affine({"a": (1.0, 0.0), "a#2": (1.0, 1e6)})
    y = [np.ones((8, 2)), np.ones((8, 50))]
    pruning = pruned(
        model, y, target={"neurons": 0.5}, fraction=0.25, debias=inner_stays, criterion="l2"
    )
    assert len(pruning.rounds) > 1
    assert pruning.report.plan.kept["a"].tolist() == [*range(4, 12)]


@pytest.mark.parametrize("scope", ["uniform", "layerwise"])
@pytest.mark.parametrize("pace", [{"fraction": 0.1}, {"schedule": lambda t, s: max(s, 0.9**t)}])
def test_rounds_take_as_large_a_share_of_narrow_layers(scope, pace):
    pruning = pruned(net(100, 8), epochs=25, target={"neurons": 0.3}, scope=scope, **pace)
    left = pruning.report.plan.new_widths
    assert left["a"] + left["b"] <= 0.3 * 108
    assert left["b"] in (2, 3)
    assert 28 <= left["a"] <= 31


def test_uniform_rounds_go_on_beside_layers_that_stay():
    pruning = pruned(
        net(100, 8, 40), fraction=0.2, target={"neurons": 0.8}, scope="uniform", exclude="a"
    )
    assert pruning.report.plan.new_widths["a"] == 100
    assert pruning.report.after.neurons <= 0.8 * 148


@pytest.mark.parametrize(("step", "multiple"), [(0.1, 20), (0.05, 10)])
def test_a_schedule_finer_than_multiples_comes_to_its_target(step, multiple):
    def line(number, target):
        return max(target, 1 - step * number)

    pruning = pruned(net(100), epochs=12, target={"neurons": 0.2}, schedule=line, round_to=multiple)
    widths = [done.after.neurons for done in pruning.rounds]
    assert widths == [*range(100 - multiple, 19, -multiple)]


def test_a_schedule_below_the_target_ends_at_the_target():
    pruning = pruned(net(100), target={"neurons": 0.5}, schedule=lambda t, s: 0.8**t)
    assert [done.after.neurons for done in pruning.rounds] == [80, 64, 51, 50]


@pytest.mark.parametrize(
    "schedule", [prune_keras.schedules.Cubic, lambda t: 0.5, lambda t, s: None]
)
def test_what_is_no_schedule_is_refused_before_fit(schedule):
    with pytest.raises(ValueError, match=r"A schedule must .* Received: .*"):
        ProgressivePruning(target={"neurons": 0.5}, schedule=schedule)


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    pruning = pruned(
        net(16),
        epochs=3,
        target={"neurons": np.float16(0.5)},
        fraction=np.float32(0.25),
        monitor="loss",
        mode="min",
        max_drop=np.float32(100.0),
        baseline=np.float32(3.0),
        log_dir=tmp_path,
    )
    assert [done.after.neurons for done in pruning.rounds] == [12, 9, 8]
    assert pruning.rounds[0].kept is True
    assert (tmp_path / "rounds.json").exists()


def test_an_amount_in_a_small_type_is_no_smaller():
    model = net(300, 300)
    thin, report = prune_keras.prune(model, target={"params": np.float16(0.5)})
    assert report.after.params <= 0.5 * model.count_params()
    _, report = prune_keras.prune(model, target={"params": np.int16(30000)})
    assert 20000 < report.after.params <= 30000


def test_a_second_fit_goes_by_the_target_that_it_is_given():
    model = net(100)
    pruning = pruned(model, target={"neurons": 0.8})
    pruning.target = {"neurons": 0.4}
    model.fit(X, Y, epochs=15, verbose=0, callbacks=[pruning])
    assert pruning.report.after.neurons == 40


def test_the_best_metric_counts_only_where_it_is_counted_from():
    judge = Judge("loss", "min", max_drop=0.1, start=0.5, best=0.3)
    assert judge.bound == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: ProgressivePruning(target={"neurons": 0.5}, seed="x"), "`seed` must be a whole"),
        (lambda m: prune_keras.prune(m, fraction=0.5, seed=1.5), "`seed` must be a whole"),
        (lambda m: prune_keras.prune(m, fraction=0.5, exclude=m.layers[0]), "`exclude` must be pa"),
        (lambda m: prune_keras.prune(m, fraction=0.5, min_units={0: 8}), "`min_units` must be one"),
        (lambda m: prune_keras.select(m, {}, fraction=0.5), "`graph` must be a traced model"),
        (
            lambda m: prune_keras.select(prune_keras.trace(m), None, fraction=0.5),
            "`scores` must map paths",
        ),
        (
            lambda m: prune_keras.select(prune_keras.trace(m), {"a": ["x"] * 16}, fraction=0.5),
            "The scores of 'a' must be 16 finite numbers",
        ),
        (lambda m: prune_keras.prune(m, {"params": np.complex64(0.5)}), "must be a share"),
    ],
)
def test_what_is_no_argument_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(net(16))


def test_a_model_without_units_to_prune_is_told_so_whatever_the_target():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    for metric in ("neurons", "params", "flops"):
        with pytest.raises(ValueError, match="must have prunable neurons"):
            prune_keras.prune(model, target={metric: 0.5})


def test_layers_in_turn_may_each_be_the_one_that_a_limit_lets_go():
    # Either half of a layer may go whole but for one unit, and the costly half is the second one.
    x = keras.Input((4,))
    h = layers.Dense(16, name="a")(x)
    model = keras.Model(x, [layers.Dense(2)(h[:, :8]), layers.Dense(50)(h[:, 8:])])
    first_is_weighty = {"a": np.where(np.arange(16) < 8, 10.0, 1.0)}
    graph = prune_keras.trace(model)
    plan = prune_keras.select(
        graph, first_is_weighty, target={"params": 0.45}, min_units=8, debias="none"
    )
    assert plan.kept["a"].tolist()[:8] == [*range(8)]
    assert prune_keras.cost(prune_keras.shrink(model, plan)).params <= 0.45 * model.count_params()

"""Targets as amounts, and shares that are counted from a given original."""

import keras
import numpy as np
import pytest
from fits import compiled, dense_model, fit
from typer.testing import CliRunner

import prune_keras
from prune_keras import Cost
from prune_keras.accounting import METRICS
from prune_keras.callbacks import ProgressivePruning
from prune_keras.cli import app
from prune_keras.selection.targets import Target, missed

WHOLE = Cost(100, 1000, 8, 400, 64)


def build(widths=(16, 12)):
    return dense_model(widths)


@pytest.mark.parametrize("metric", METRICS)
def test_an_amount_is_met_as_the_share_it_is(metric):
    model = build()
    cost = prune_keras.cost(model)
    amount = int(0.6 * getattr(cost, metric))
    share = amount / getattr(cost, metric)
    thin, report = prune_keras.prune(model, target={metric: amount})
    assert getattr(prune_keras.cost(thin), metric) <= amount
    assert report.plan == prune_keras.prune(model, target={metric: share})[1].plan
    assert not report.notes


def test_numbers_of_all_kinds_are_taken():
    model = build()
    plans = [
        prune_keras.prune(model, target={"params": amount})[1].plan
        for amount in (200, 200.0, np.int64(200), np.float32(200))
    ]
    assert all(plan == plans[0] for plan in plans)


@pytest.mark.parametrize("amount", [1, 1.0, 0, -5, 1.5, True, float("nan"), float("inf"), "200"])
def test_what_is_neither_share_nor_amount_is_refused(amount):
    with pytest.raises(ValueError, match="share in .0, 1., or a whole number above 1"):
        prune_keras.prune(build(), target={"params": amount})
    with pytest.raises(ValueError, match="share in .0, 1., or a whole number above 1"):
        ProgressivePruning(target={"params": amount})


@pytest.mark.parametrize("of", [1000, {"params": 3}, "model.keras"])
def test_shares_are_of_a_cost(of):
    with pytest.raises(ValueError, match="`of` must be the cost .*prune_keras.cost.original"):
        prune_keras.prune(build(), target={"params": 0.5}, of=of)
    with pytest.raises(ValueError, match="`of` must be the cost .*prune_keras.cost.original"):
        ProgressivePruning(target={"params": 0.5}, of=of)


def test_a_target_that_is_met_already_is_refused():
    model = build()
    params, original = model.count_params(), prune_keras.cost(build((32, 32)))
    for target, of in (({"params": params}, None), ({"params": 0.9}, original)):
        message = f"must be less than the model has.*{'original' if of else params}"
        with pytest.raises(ValueError, match=message):
            prune_keras.prune(model, target=target, of=of)
        with pytest.raises(ValueError, match=message):
            fit(model, ProgressivePruning(target=target, of=of, verbose=0), epochs=1)


def test_what_cannot_be_reached_is_told_as_it_was_asked_for():
    model = build()
    with pytest.raises(ValueError, match=r"target=\{'params': 5\}, .*closest .*\{'params': 1\d\}"):
        prune_keras.prune(model, target={"params": 5})
    original = prune_keras.cost(build((32, 32)))
    with pytest.raises(ValueError, match=r"\{'params': 0.001\} of what the original has, .*0.01"):
        prune_keras.prune(model, target={"params": 0.001}, of=original)


def test_of_two_metrics_one_may_be_met_already():
    model = build()
    cost = prune_keras.cost(model)
    thin, _ = prune_keras.prune(model, target={"params": cost.params + 50, "flops": 0.5})
    assert prune_keras.cost(thin).flops <= 0.5 * cost.flops
    pruning = ProgressivePruning(
        {"params": cost.params + 50, "flops": 0.5},
        schedule=prune_keras.schedules.Geometric(2),
        verbose=0,
    )
    fit(model, pruning, epochs=3)
    assert pruning.report.after.flops <= 0.5 * cost.flops


PACES = ({"fraction": 0.25}, {"schedule": prune_keras.schedules.Cubic(2)})


@pytest.mark.parametrize(
    ("target", "pace"), [({"params": 0.5}, p) for p in PACES] + [({"params": 180}, PACES[1])]
)
def test_who_goes_on_from_a_checkpoint_comes_to_the_same_end(target, pace):
    model = build()
    original = prune_keras.cost(model)
    first = ProgressivePruning(target, **pace, verbose=0)
    fit(model, first, epochs=1)
    assert first.report.notes
    widths = prune_keras.trace(model).widths
    resumed = compiled(prune_keras.shrink(model, prune_keras.Plan.everything(widths)))
    second = ProgressivePruning(target, **pace, of=original, verbose=0)
    fit(resumed, second, epochs=4)
    asked = 180 if target["params"] == 180 else original.params / 2
    assert asked - 40 < resumed.count_params() <= asked
    assert second.report.of == original and not second.report.notes
    if "schedule" in pace:
        assert len(first.rounds) + len(second.rounds) == 2


def test_lines_and_reports_count_from_the_original(capsys):
    original, model = prune_keras.cost(build((32, 32))), build()
    pruning = ProgressivePruning({"params": 0.1}, 0.2, of=original)
    fit(model, pruning, epochs=1)
    share = f"{model.count_params() / original.params:.1%}"
    assert f"params {share}" in capsys.readouterr().out
    text = str(pruning.report)
    assert share in text and "original" in text and f"{original.params:,}" in text
    assert "remain, not 10.00%" in text
    assert pruning.report.to_dict()["of"]["params"] == original.params


def test_notes_speak_in_the_form_of_the_target():
    target = Target({"params": 40, "flops": 0.5}, WHOLE)
    (note,) = missed(target, Cost(60, 800, 8), "why")
    assert "60 params remain, not 40, 80.00% of the flops remain, not 50.00%: why" in note
    assert missed(target, Cost(40, 500, 8), "why") == ()


def test_milliseconds_stand_beside_amounts(monkeypatch):
    model = build()
    monkeypatch.setattr("prune_keras.rounds.goal.latency", lambda model, size: 5.0)
    pruning = ProgressivePruning({"params": 200, "latency_ms": 6.0}, 0.4, verbose=0)
    fit(model, pruning, epochs=4)
    assert model.count_params() <= 200
    met = ProgressivePruning({"params": 10_000, "latency_ms": 6.0}, verbose=0)
    with pytest.raises(ValueError, match="must be less than the model has"):
        fit(model, met, epochs=1)
    slow = ProgressivePruning({"params": 10_000, "latency_ms": 1.0}, 0.3, verbose=0)
    before = model.count_params()
    fit(model, slow, epochs=1)
    assert model.count_params() < before


def test_sizes_that_are_open_are_asked_for():
    images = keras.Input((None, None, 2))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(images))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    known = prune_keras.cost(model, (8, 8, 2))
    for arguments in ({}, {"of": known}, {"of": prune_keras.cost(model), "input_shape": (8, 8, 2)}):
        with pytest.raises(ValueError, match="needs known spatial sizes"):
            prune_keras.prune(model, target={"flops": 0.5}, **arguments)
    thin, _ = prune_keras.prune(model, target={"flops": 0.5}, of=known, input_shape=(8, 8, 2))
    assert prune_keras.cost(thin, (8, 8, 2)).flops <= 0.5 * known.flops


def test_the_command_line_takes_amounts_and_an_original(tmp_path):
    original, model = build((32, 32)), build()
    original.save(tmp_path / "original.keras")
    model.save(tmp_path / "model.keras")

    def run(*arguments):
        thin = str(tmp_path / "thin.keras")
        found = CliRunner().invoke(
            app, ["prune", str(tmp_path / "model.keras"), "-o", thin, *arguments]
        )
        assert found.exit_code == 0, found.output
        return keras.models.load_model(thin).count_params()

    assert 150 < run("--target", "params=200") <= 200
    most = 0.15 * original.count_params()
    assert (
        most - 50 < run("--target", "params=0.15", "--of", str(tmp_path / "original.keras")) <= most
    )

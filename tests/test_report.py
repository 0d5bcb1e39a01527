"""Reports: text, JSON and widths tell the same."""

import json

from prune_keras.accounting import Cost
from prune_keras.graph import Fixed
from prune_keras.plan import Plan
from prune_keras.report import Report

REPORT = Report(
    "net",
    Plan({"a": [0], "b": [1, 2]}, {"a": 4, "b": 3}),
    Cost(2000, 800, 7, 8000, 4000),
    Cost(500, 400, 3, 2000, 3000),
    (Fixed("c", 10, "they are an output of the model"),),
)


def test_widths_are_before_and_after():
    assert REPORT.widths == {"a": (4, 1), "b": (3, 2)}


def test_text_holds_costs_shares_widths_and_reasons():
    text = REPORT.render()
    for part in (
        "2,000",
        "500",
        "25.0%",
        "50.0%",
        "weight_bytes",
        "75.0%",
        "│ a ",
        "25%",
        "c: 10 units are fixed: they are",
    ):
        assert part in text


def test_text_leaves_out_unknown_flops():
    report = Report("net", REPORT.plan, Cost(2000, None, 7), Cost(500, None, 3), ())
    assert "flops" not in report.render()


def test_json_gives_the_plan_back():
    stored = json.loads(REPORT.to_json())
    assert Plan(stored["plan"]["kept"], stored["plan"]["widths"]) == REPORT.plan
    assert stored["after"] == vars(REPORT.after)

"""Plans: checked, composed, saved and read back."""

import numpy as np
import pytest

from prune_keras.plan import Plan

FIRST = Plan({"a": [0, 2, 3], "b": [0, 1]}, {"a": 5, "b": 2})


def test_composition_counts_in_the_original():
    second = Plan({"a": [1, 2], "b": [1]}, {"a": 3, "b": 2})
    both = FIRST.then(second)
    assert both.kept["a"].tolist() == [2, 3]
    assert both.kept["b"].tolist() == [1]
    assert both.widths == {"a": 5, "b": 2}


def test_composition_is_associative():
    second = Plan({"a": [0, 2], "b": [0, 1]}, {"a": 3, "b": 2})
    third = Plan({"a": [1], "b": [0]}, {"a": 2, "b": 2})
    assert FIRST.then(second).then(third) == FIRST.then(second.then(third))


def test_keeping_everything_changes_nothing():
    assert FIRST.then(Plan.everything(FIRST.new_widths)) == FIRST
    assert Plan.everything({"a": 3}).removed == 0


def test_saved_and_read_back_it_is_equal(tmp_path):
    FIRST.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == FIRST
    assert hash(loaded) == hash(FIRST)
    assert loaded.kept["a"].dtype == int


def test_a_plan_does_not_change_with_the_array_it_was_made_from():
    indices = np.array([0, 1])
    plan = Plan({"a": indices}, {"a": 3})
    indices[0] = 2
    assert plan.kept["a"].tolist() == [0, 1]


@pytest.mark.parametrize("kept", [[1, 0], [0, 0], [-1, 0], [0, 5], [[0]]])
def test_indices_must_be_sorted_and_in_range(kept):
    with pytest.raises(ValueError, match=r"Received: kept\['a'\]"):
        Plan({"a": kept}, {"a": 5})


def test_kept_and_widths_must_name_the_same_layers():
    with pytest.raises(ValueError, match=r"same layers. Received: kept=\['a'\], widths=\['b'\]"):
        Plan({"a": [0]}, {"b": 1})


def test_layers_that_a_following_plan_does_not_name_keep_what_they_have():
    first = Plan({"a": [1, 3], "b": [2]}, {"a": 4, "b": 3})
    assert first.then(Plan({"a": [1]}, {"a": 2})) == Plan({"a": [3], "b": [2]}, first.widths)


def test_a_following_plan_must_not_name_others():
    with pytest.raises(ValueError, match="2 units for 'c', while it has None"):
        FIRST.then(Plan({"c": [0]}, {"c": 2}))


def test_a_following_plan_must_fit():
    with pytest.raises(ValueError, match="4 units for 'a', while it has 3"):
        FIRST.then(Plan({"a": [0], "b": [0]}, {"a": 4, "b": 2}))


@pytest.mark.parametrize("text", ["not json", "[1]", '{"kept": {}}'])
def test_a_file_that_holds_something_else_is_named(tmp_path, text):
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="plan.json.*plan.save"):
        Plan.load(file)

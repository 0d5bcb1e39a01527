"""Layers are named exactly, whatever their names would mean as patterns."""

import keras
import pytest
from keras import layers

import prune_keras
from prune_keras.selection.limits import Limits

NAMES = ("fc[1]", "fc1", "fc*", "fc?", "fcx", "fc[!a]")


def model():
    hidden = [layers.Dense(8, name=name) for name in NAMES]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(2, name="head")])


def widths(**limits):
    thin, _ = prune_keras.prune(model(), fraction=0.5, scope="uniform", **limits)
    return {name: thin.get_layer(name).units for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_is_addressed_by_its_name_alone(name):
    others = {other for other in NAMES if other != name}
    for limits in (
        {"exclude": name},
        {"exclude": [name]},
        {"min_units": {name: 8}},
        {"max_layer_fraction": {name: 0.05}},
        {"round_to": {name: 8}},
    ):
        found = widths(**limits)
        assert found[name] == 8, limits
        assert {found[other] for other in others} == {4}, limits


def test_other_texts_are_patterns():
    assert widths(exclude="fc[0-9]") == dict.fromkeys(NAMES, 4) | {"fc1": 8}
    assert widths(exclude=["fc[[]1]", "fc*"]) == dict.fromkeys(NAMES, 4) | {"fc[1]": 8, "fc*": 8}
    assert set(widths(min_units={"f*": 6}).values()) == {6}


def test_types_are_still_names_of_all_their_layers():
    paths = {"Dense": "Dense", "other": "Dense"}
    limits = Limits(min_units={"Dense": 3})
    assert limits.of("min_units", "other", "Dense", paths) == [3]


def test_a_nested_layer_is_addressed_by_its_path():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="a[0]")], name="part[1]")
    whole = keras.Sequential([keras.Input((4,)), inner, layers.Dense(8, name="b"), layers.Dense(2)])
    thin, _ = prune_keras.prune(whole, fraction=0.3, exclude="part[1]/a[0]")
    assert thin.get_layer("part[1]").get_layer("a[0]").units == 8
    assert thin.get_layer("b").units < 8


def test_a_name_that_fits_nothing_is_told():
    with pytest.raises(ValueError, match=r"`exclude` must name layers.*'fc\[9\]'"):
        prune_keras.prune(model(), fraction=0.5, exclude="fc[9]")
    with pytest.raises(ValueError, match=r"`min_units` must name layers.*'fc\[9\]'"):
        prune_keras.prune(model(), fraction=0.5, min_units={"fc[9]": 2})

"""Backbones of KerasHub: what is reached, removed equals silenced, files that need no KerasHub."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from composites import Composite
from composites_checks import assert_close, foreign_modules, kept_entries, outputs_of, silenced
from composites_checks import share_reached as share_of
from promises import random_plan

import prune_keras

hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")
import hub_backbones  # noqa: E402

NAMES = ("Bert", "ViT", "MiT", "MobileNet", "EfficientNet", "HGNetV2", "DeiT", "GPT2", "Gemma")
READER = Path(__file__).parent / "hub_reader.py"


def composite(name, unfolded=False):
    def build():
        model = hub_backbones.with_head(name)
        return prune_keras.unfold(model, flat=True) if unfolded else model

    return Composite(name, build, lambda count: (hub_backbones.samples(name), None))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unfolded", [False, True])
def test_removed_is_silenced(name, unfolded):
    each = composite(name, unfolded)
    model, x = each.build(), hub_backbones.samples(name)
    plan = random_plan(model, (0, 0.5))
    kept = kept_entries(each, plan)
    with silenced(model, kept):
        expected = outputs_of(model, x)
    before = model.count_params()
    prune_keras.shrink_in_place(model, plan)
    assert model.count_params() < before
    assert_close(outputs_of(model, x), expected)


@pytest.mark.parametrize("name", hub_backbones.NAMES)
def test_all_is_reached_once_it_is_unfolded(name):
    each = composite(name, True)
    model = each.build()
    assert share_of(each, prune_keras.trace(model), model) > 0.95


@pytest.fixture(scope="module")
def read_back(tmp_path_factory):
    """Save thin models, and read all of them in one process that cannot import KerasHub."""
    folder, found = tmp_path_factory.mktemp("thin"), {}
    for name in NAMES:
        thin, _ = prune_keras.prune(hub_backbones.with_head(name), fraction=0.4)
        thin = thin if is_plain(thin) else prune_keras.unfold(thin, flat=True)
        x, path = hub_backbones.samples(name), folder / f"{name}.keras"
        thin.save(path)
        np.savez(path.with_suffix(".npz"), *keras.tree.flatten(x))
        found[name] = path, outputs_of(thin, x)
    command = [sys.executable, str(READER), *(str(path) for path, _ in found.values())]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603, of this checkout
    return found


def is_plain(model):
    return all(type(each).__module__.startswith("keras.") for each in model._flatten_layers())


@pytest.mark.parametrize("name", NAMES)
def test_a_thin_backbone_is_read_back_without_keras_hub(name, read_back):
    path, expected = read_back[name]
    assert foreign_modules(path) == set()
    assert_close([*np.load(path.with_suffix(".out.npz")).values()], expected)

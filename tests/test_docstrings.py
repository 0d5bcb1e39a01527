"""The examples in the docstrings run and print what they say; test_pages.py has those of pages."""

import configparser
import doctest
import importlib
import inspect
from pathlib import Path

import keras
import pytest

import prune_keras

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    """Return the dotted names of modules with examples in the packages that setup.cfg lists."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    names = []
    for package in config["options"]["packages"].split():
        folder = ROOT.joinpath(*package.split("."))
        if not folder.is_dir():
            folder = ROOT / package.removeprefix("prune_keras.")
        files = sorted(folder.glob("*.py"))
        names += [
            package if f.stem == "__init__" else f"{package}.{f.stem}"
            for f in files
            if ">>>" in f.read_text(encoding="utf-8")
        ]
    return names


def public_functions():
    exported = getattr(prune_keras, "__all__", [])
    return [name for name in exported if inspect.isfunction(getattr(prune_keras, name))]


@pytest.mark.parametrize("name", modules())
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    keras.utils.clear_session()  # layers that an example does not name are numbered from zero
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("name", public_functions())
def test_public_functions_have_an_example(name):
    assert ">>>" in (getattr(prune_keras, name).__doc__ or "")

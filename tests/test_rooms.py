"""The plan of the house: which room may know of which, read from the imports."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"prune_keras": ROOT / "prune_keras"} | {
    f"prune_keras.{name}": ROOT / name for name in ("callbacks", "models")
}
MODULES = {
    ".".join([package, *file.relative_to(folder).with_suffix("").parts]).removesuffix(
        ".__init__"
    ): file
    for package, folder in FOLDERS.items()
    for file in folder.rglob("*.py")  # which follows no links
}


def imported(name):
    """Return the modules of the library that a module imports, unless only when it is run."""
    found = set()
    for statement in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        if "__main__" in ast.dump(statement):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("prune_keras."):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inner & set(MODULES) or {node.module}
    return found


def inside(room):
    return [name for name in MODULES if f"{name}.".startswith(f"prune_keras.{room}.")]


def rooms(names):
    return {name.split(".")[1] for name in names if "." in name}


def reached(names):
    """Return everything that modules import, and what that imports in turn."""
    seen, queue = set(), [*names]
    while queue:
        found = imported(queue.pop()) - seen
        seen |= found
        queue += found
    return seen


KNOWN = {
    "accounting": set(),
    "atomic": set(),
    "plan": {"atomic"},
    "rounding": set(),
    "validation": set(),
    "schedules": {"rounding", "validation"},
    "debias": {"validation"},
    "_keras": {"_backend"},
    "processes": {"_backend"},
    "samples": {"_keras", "_backend", "graph", "processes", "validation"},
    "readers": {"samples", "_keras", "_backend", "graph"},
    "criteria": {"readers", "samples", "_keras", "_backend", "graph", "validation"},
    "tracing": {"_keras", "accounting", "graph", "initial_values", "interrupts"},
    "selection": {"accounting", "debias", "graph", "plan", "rounding", "validation"},
    "deploying": {"_keras", "proof"},
    "preparing": {"samples", "_keras", "_backend", "graph"},
    "repair": {"readers", "samples", "_keras", "_backend", "graph"},
}
"""What a room knows of at most; the others below are free but for what they never come to know."""

UNKNOWN = {
    "teaching": {"callbacks", "models", "cli"},
    "quantizing": {"callbacks", "models", "cli"},
    "rounds": {"callbacks", "models", "cli"},
    "callbacks": {"models", "cli"},
    "models": {"cli"},
}


@pytest.mark.parametrize("room", KNOWN)
def test_a_room_knows_of_no_others(room):
    found = rooms(set().union(*map(imported, inside(room)))) - {room}
    assert found <= KNOWN[room]


@pytest.mark.parametrize("room", UNKNOWN)
def test_a_room_never_comes_to_know(room):
    assert rooms(reached(inside(room))).isdisjoint(UNKNOWN[room])


@pytest.mark.parametrize("room", ["accounting", "debias", "plan", "schedules", "validation"])
def test_a_room_of_numbers_knows_no_keras(room):
    assert not [name for name in inside(room) if "import keras" in MODULES[name].read_text("utf-8")]


def test_the_picture_of_the_house_shows_every_room():
    page = (ROOT / "docs" / "how-it-works.md").read_text("utf-8").split("## Trace")[0]
    shown = {*re.findall(r"`(\w+)/?`", page)}
    assert {name.split(".")[1] for name in MODULES if "." in name} <= shown


def test_nothing_goes_round_in_circles():
    known = {name: imported(name) - {name} for name in MODULES if name != "prune_keras"}
    assert [*graphlib.TopologicalSorter(known).static_order()]


def test_no_test_file_imports_another_one():
    for file in (ROOT / "tests").rglob("*.py"):
        assert not re.findall(r"^\s*(?:from|import) test_\w+", file.read_text("utf-8"), re.M), file


def test_private_keras_is_touched_by_rules_recordings_and_in_one_room():
    """All that others take from it is public, or handed to them by `prune_keras._keras`."""
    allowed = {*inside("_keras"), *inside("tracing.rules"), *inside("tracing.opening")}
    source = re.compile(r"^\s*(?:from|import) keras\.src", re.M)
    touching = {name for name, file in MODULES.items() if source.search(file.read_text("utf-8"))}
    assert touching - {"prune_keras._keras"} <= allowed

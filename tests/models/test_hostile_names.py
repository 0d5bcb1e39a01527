"""Names of layers reach a terminal as visible characters only, and no markup of theirs counts."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

import prune_keras
from prune_keras.cli import app, console
from prune_keras.rounds.judge import Judge
from prune_keras.rounds.round import Round, line
from prune_keras.text import printable, printable_lines

HOSTILE = {
    "colour": "a\x1b[31mred",
    "title": "a\x1b]0;owned\x07",
    "line": "a\nCannot be pruned: nothing",
    "return": "a\rb",
    "bidi": "a\u202eb",
    "zero": "a\u200bb",
    "c1": "a\x9b31m",
    "separator": "a\u2028b",
    "erase": "a\x08\x7f",
    "markup": "a[red]b[bold]:smile:",
}


def named(name):
    hidden = [layers.Dense(8, name=name), layers.Dense(6, name=f"{name}2", activation="softmax")]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(2)])


def visible(text):
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("kind", HOSTILE)
def test_everything_that_is_printed_is_visible(kind, capsys):
    name = HOSTILE[kind]
    model = named(name)
    graph = prune_keras.trace(model)
    _, report = prune_keras.prune(model, fraction=0.3)
    plan, cost = report.plan, report.after
    done = Round(1, 0, 0.3, plan, cost, cost, None, 0.0, metric=0.5)
    print(report, *graph.fixed, line(done, cost, Judge(name, "max")), sep="\n")
    console.show_graph(model, graph)
    console.show_report(dataclasses.replace(report, name=name))
    console.complain(f"Error: {graph.fixed[0]}")
    with pytest.raises(ValueError) as caught:
        prune_keras.select(graph, prune_keras.score(model), target={"params": 0.0001})
    console.complain(caught.value)
    out, err = capsys.readouterr()
    assert visible(out) and visible(err)
    assert "\nCannot be pruned: nothing" not in out + err
    if kind == "markup":
        assert name in out and name in err


def test_inspect_and_prune_show_names_escaped(tmp_path):
    file, thin = tmp_path / "model.keras", tmp_path / "thin.keras"
    named("a\x1b[31m\u202e").save(file)
    for arguments in (
        ["inspect", str(file)],
        ["prune", str(file), "-o", str(thin), "--fraction", "0.3"],
        ["prune", str(file), "-o", str(thin), "--target", "params=0.0001"],
        ["prune", str(file), "-o", str(thin), "--fraction", "0.3", "--exclude", "b\x1b[32m"],
    ):
        found = CliRunner().invoke(app, arguments)
        assert visible(found.output), arguments
        assert r"\x1b[31m\u202e" in found.output, arguments


def on_samples(model, file):
    data = np.ones((2048, 4)), np.ones((2048, 2))
    prune_keras.score(model, "taylor", data)


WAYS_IN_A_GRAPH = {
    "latency": lambda model, file: prune_keras.latency(model),
    "score": on_samples,
    "export": lambda model, file: prune_keras.export(model, file, format="tf_saved_model"),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others take any name")
@pytest.mark.parametrize("way", WAYS_IN_A_GRAPH)
def test_a_name_that_no_graph_takes_is_refused_and_no_later_layer_bears_it(way, tmp_path):
    model = named("a[red]")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="not a valid (root )?scope name"):
        WAYS_IN_A_GRAPH[way](model, tmp_path / "saved")
    later = layers.Dense(2, name="later")
    later.build((None, 2))
    assert later.kernel.path == "later/kernel"


def test_letters_of_all_scripts_stay():
    for text in ("Größe", "层_1", "слой", "dense/kernel:0", "a b", "é\u0301"):
        assert printable(text) == text


def test_lines_stay_lines_only_where_there_are_several():
    assert printable("a\nb") == r"a\nb"
    assert printable_lines("a\n\x1bb\r") == "a\n" + r"\x1bb\r"
    assert printable("\ud800") == r"\ud800"

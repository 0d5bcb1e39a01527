"""Commands that look at files and change nothing: `inspect`, `score`, `diff` and `report`."""

from pathlib import Path
from typing import Annotated

import typer

from prune_keras.cli import console
from prune_keras.cli.application import command
from prune_keras.cli.options import (
    Criterion,
    Debias,
    InputShape,
    Json,
    ModelFile,
    Samples,
    Seed,
    parse_shape,
)


@command("prune-keras inspect model.keras")
def inspect(
    model: ModelFile,
    everything: Annotated[
        bool, typer.Option("--all", help="Show layers that have no units, too.")
    ] = False,
    input_shape: InputShape = None,
    as_json: Json = False,
) -> None:
    """Show layers, families, neurons, parameters, FLOPs, and what cannot be pruned and why."""
    import prune_keras
    from prune_keras.cli.guarded import read_model
    from prune_keras.cli.inspecting import overview

    network = read_model(model)
    graph = prune_keras.trace(network, parse_shape(input_shape))
    if as_json:
        console.show_json(overview(network, graph))
    else:
        console.show_graph(network, graph, everything)


@command("prune-keras score model.keras --data samples.npz --criterion taylor")
def score(
    model: ModelFile,
    data: Samples = None,
    criterion: Criterion = "auto",
    debias: Debias = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="An .npz to write: path of a layer -> scores."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score all neurons, and show how scores of layers compare before and after the debias.

    By auto, scores are those that prune and fit go by for a target on FLOPs.
    """
    from prune_keras.cli.guarded import read_model
    from prune_keras.cli.scored import scored
    from prune_keras.models.images import read_samples

    network = read_model(model, compile=data is not None)
    samples = None if data is None else read_samples(data)
    found = scored(network, samples, criterion, debias, seed)
    if output is not None:
        found.save(output)
    if as_json:
        console.show_json(found.to_dict())
        return
    console.say(f"{network.name}: {found.criterion}, debias {found.debias}")
    console.show_table("Scores, and where the lowest tenth of all neurons lies", found.rows)


@command("prune-keras diff model.keras thin.keras --data samples.npz")
def diff(
    before: Annotated[Path, typer.Argument(help="A .keras or .h5 file.", metavar="BEFORE")],
    after: Annotated[Path, typer.Argument(help="Another one.", metavar="AFTER")],
    data: Samples = None,
    repeats: Annotated[
        int, typer.Option(help="Calls that the latency is the median of; 0 measures none.")
    ] = 20,
    input_shape: InputShape = None,
    as_json: Json = False,
) -> None:
    """Compare two models: sizes, FLOPs, latency, widths of layers, agreement of outputs."""
    from prune_keras.cli.difference import difference
    from prune_keras.models.images import read_samples

    samples = None if data is None else read_samples(data)
    found = difference(before, after, samples, repeats, parse_shape(input_shape))
    if as_json:
        console.show_json(found)
        return
    console.show_table(f"{before.name} and {after.name}", found["measures"])
    console.show_table("Layers whose units differ", found["widths"])
    console.say("\n".join([found["agreement"], *found["notes"]]))


@command("prune-keras report prune-keras-cifar10 --html report.html")
def report(
    run: Annotated[
        Path, typer.Argument(help="The folder of a run, or a report.json.", metavar="RUN")
    ],
    html: Annotated[
        Path | None, typer.Option(help="A page to write, which opens without a network.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a run came to: costs, widths, rounds, and what could not be pruned and why."""
    from prune_keras.report import Report

    file = run / "report.json" if run.is_dir() else run
    if not file.is_file():
        raise ValueError(
            "A run must be a folder with a report.json, or such a file. "
            f"Received: run='{run}', and there is no '{file}'. Name one that is there."
        )
    found = Report.load(file)
    if html is not None:
        found.to_html(html)
    if as_json:
        console.show_json(found.to_dict())
    else:
        console.show_report(found.render())

"""Commands for a model in a file: `prune`, `inspect` and `invert`."""

from pathlib import Path
from typing import Annotated

import typer

from prune_keras.cli import console
from prune_keras.cli.application import command
from prune_keras.cli.options import (
    Criterion,
    Debias,
    Fuse,
    InputShape,
    ModelFile,
    Scope,
    Seed,
    Targets,
    parse_fuse,
    parse_shape,
    parse_targets,
)


@command
def prune(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .keras or .h5 to write.")],
    target: Targets = None,
    fraction: Annotated[
        float | None, typer.Option(help="Share of the neurons to remove, instead of a target.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="An .npz file with x_train to score with, and y_train for a model with a loss."
        ),
    ] = None,
    criterion: Criterion = "auto",
    debias: Debias = "auto",
    fuse: Fuse = "auto",
    scope: Scope = "global",
    min_units: Annotated[int, typer.Option(help="Units that every layer keeps.")] = 1,
    max_layer_fraction: Annotated[
        float, typer.Option(help="Share of its units that a layer loses at most.")
    ] = 1.0,
    round_to: Annotated[int, typer.Option(help="Keep a multiple of this many units.")] = 1,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Name or pattern of a layer to keep; repeatable."),
    ] = None,
    input_shape: InputShape = None,
    seed: Seed = 0,
    of: Annotated[
        Path | None,
        typer.Option(
            help="The model that shares are of, where MODEL was pruned before; a .keras or .h5 "
            "file.",
            metavar="ORIGINAL",
        ),
    ] = None,
):
    """Prune a model at once, without training."""
    import prune_keras
    from prune_keras.cli.guarded import read_model
    from prune_keras.models.images import read_samples

    shape = parse_shape(input_shape)
    thin, report = prune_keras.prune(
        read_model(model, compile=data is not None),
        target=parse_targets(target),
        fraction=fraction,
        criterion=criterion,
        debias=debias,
        scope=scope,
        data=None if data is None else read_samples(data),
        fuse=parse_fuse(fuse),
        min_units=min_units,
        max_layer_fraction=max_layer_fraction,
        round_to=round_to,
        exclude=exclude or (),
        input_shape=shape,
        seed=seed,
        of=None if of is None else prune_keras.cost(read_model(of), shape),
    )
    prune_keras.export(thin, output)
    console.show_report(report)
    console.say(f"Wrote {output}")


@command
def inspect(model: ModelFile, input_shape: InputShape = None):
    """Show layers, families, neurons, parameters, FLOPs, and what cannot be pruned and why."""
    import prune_keras
    from prune_keras.cli.guarded import read_model

    network = read_model(model)
    console.show_graph(network, prune_keras.trace(network, parse_shape(input_shape)))


@command
def invert(
    model: ModelFile,
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE")],
    layer: Annotated[str, typer.Option(help="Name of a layer, or its path in the model.")],
    keep: Annotated[
        Path | None, typer.Option(help="The plan.json of a run that began with this model.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of gradient descent.")] = 400,
    variation: Annotated[float, typer.Option(help="Weight of the total variation.")] = 0.1,
    seed: Seed = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture to write; the errors go beside it.")
    ] = Path("inversion.png"),
):
    """Reconstruct an image from a layer's feature maps: all, the kept ones, as many random ones."""
    from prune_keras.cli.guarded import read_model
    from prune_keras.models import inversion, precision, records
    from prune_keras.plan import Plan

    network = precision.convert(read_model(model), "float32")
    plan = None if keep is None else Plan.load(keep)
    pixels = inversion.read_image(image, network)
    found = inversion.invert(network, pixels, layer, plan, steps, variation, seed=seed)
    inversion.draw(pixels, found, output)
    rows = [inversion.errors(reconstruction) for reconstruction in found]
    records.write_table(output.with_suffix(".csv"), rows)
    console.show_table(f"What {layer} tells of {image.name}", rows)
    console.say(f"Wrote {output}")

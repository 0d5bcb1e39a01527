"""Commands that make something of a model in a file: `prune`, `export` and `invert`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prune_keras.cli import console
from prune_keras.cli.application import command
from prune_keras.cli.options import (
    Criterion,
    Debias,
    Fuse,
    InputShape,
    ModelFile,
    Samples,
    Scope,
    Seed,
    Targets,
    parse_fuse,
    parse_shape,
    parse_targets,
)


@command("prune-keras prune model.keras --target flops=0.5 --data samples.npz -o thin.keras")
def prune(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .keras or .h5 to write.")],
    target: Targets = None,
    fraction: Annotated[
        float | None, typer.Option(help="Share of the neurons to remove, instead of a target.")
    ] = None,
    data: Samples = None,
    criterion: Criterion = "auto",
    debias: Debias = "auto",
    fuse: Fuse = "auto",
    scope: Scope = "auto",
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
    report: Annotated[
        Path | None,
        typer.Option(help="Where to write the report: a .html to look at, or a .json."),
    ] = None,
) -> None:
    """Prune a model at once, without training."""
    import prune_keras
    from prune_keras.cli.guarded import read_model
    from prune_keras.models.images import read_samples

    shape = parse_shape(input_shape)
    network = read_model(model, data is not None, () if of is None else (of,))
    thin, told = prune_keras.prune(
        network,
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
    told = told.measured(latency_ms=_latencies(network, thin, shape))
    if report is not None:
        (told.save if report.suffix == ".json" else told.to_html)(report)
    console.show_report(told)
    console.say(f"Wrote {output}")


def _latencies(
    before: Any, after: Any, shape: tuple[int, ...] | None
) -> tuple[float | None, float | None]:
    """Return the milliseconds of one sample before and after; say so where they cannot be had."""
    import prune_keras

    try:
        first, last = (prune_keras.latency(each, input_shape=shape) for each in (before, after))
    except ValueError as error:
        console.say(f"Latency was not measured: {error}")
        return None, None
    return first, last


@command("prune-keras export thin.keras -o thin.tflite --before model.keras")
def export(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file, or folder, to write.")],
    format: Annotated[
        str | None,
        typer.Option(
            help="h5, keras, tf_saved_model, onnx, litert or openvino. Defaults to what the output "
            "ends as: .h5, .keras, .onnx, .tflite, .xml."
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write LiteRT in eight bits; scales are found on --data.")
    ] = False,
    data: Samples = None,
    before: Annotated[
        Path | None,
        typer.Option(
            help="The model it was made of, to be exported for a moment and compared by bytes and "
            "milliseconds in the same runtime.",
            metavar="ORIGINAL",
        ),
    ] = None,
) -> None:
    """Write a model for where it runs, run it there, and compare its outputs with Keras'."""
    import prune_keras
    from prune_keras.cli.deployments import compared
    from prune_keras.cli.guarded import read_model
    from prune_keras.models.images import read_samples

    if int8 and data is None:
        raise ValueError(
            "Scales of eight bits are found on samples. Received: --int8 without --data. Name an "
            ".npz file with x_train."
        )
    samples = None if data is None else read_samples(data, most=2048 if int8 else 64)
    inputs = samples[0] if isinstance(samples, tuple) else samples
    network = read_model(model, others=() if before is None else (before,))
    prune_keras.export(network, output, inputs, format, inputs if int8 else None)
    console.say(f"Wrote {output}, which gives the outputs of {model}")
    if before is not None:
        console.show_table("In its runtime", compared(before, model, output, format))


@command("prune-keras invert model.keras photo.jpg --layer conv1 --layer conv3")
def invert(
    model: ModelFile,
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE")],
    layer: Annotated[
        list[str], typer.Option(help="Name of a layer, or its path in the model; repeatable.")
    ],
    keep: Annotated[
        Path | None, typer.Option(help="The plan.json of a run that began with this model.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of gradient descent.")] = 300,
    variation: Annotated[float, typer.Option(help="Weight of the total variation.")] = 0.1,
    seed: Seed = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture to write; the errors go beside it.")
    ] = Path("inversion.png"),
) -> None:
    """Reconstruct an image from a layer's feature maps: all, the kept ones, as many random ones."""
    from prune_keras import plots
    from prune_keras.cli.guarded import read_model
    from prune_keras.models import inversion, precision, records
    from prune_keras.models.preimages import Search
    from prune_keras.plan import Plan

    output = plots.picture(output)
    network = precision.convert(read_model(model), "float32")
    plan = None if keep is None else Plan.load(keep)
    pixels = inversion.read_image(image, network)
    search = Search(steps=steps, variation=variation)
    found = [
        r for each in layer for r in inversion.invert(network, pixels, each, plan, search, seed)
    ]
    inversion.draw(pixels, found, output)
    rows = [inversion.errors(reconstruction) for reconstruction in found]
    records.write_table(output.with_suffix(".csv"), rows)
    console.show_table(f"What layers tell of {image.name}", rows)
    console.say(f"Wrote {output}")

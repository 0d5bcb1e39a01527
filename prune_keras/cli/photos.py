"""Commands that transfer VGG-16 to photos: `cats-vs-dogs` and `compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prune_keras.cli import console
from prune_keras.cli.application import command
from prune_keras.cli.options import (
    BatchesPerRound,
    KeepRounds,
    MaxDrop,
    Output,
    Overwrite,
    Schedule,
    Seed,
    Targets,
    parse_fuse,
    parse_schedule,
    parse_targets,
)

Photos = Annotated[
    Path | None,
    typer.Option(
        help="Folder with train/, validation/ and test/, each with cats/ and dogs/, or with "
        "Kaggle's cat.0.jpg and dog.0.jpg. Defaults to cats_vs_dogs in $PRUNE_KERAS_DATA."
    ),
]
Weights = Annotated[
    str, typer.Option(help="imagenet, which Keras downloads, an .h5 file, or none: drawn.")
]
ImageSize = Annotated[int, typer.Option(help="Height and width of the photos.")]
Precision = Annotated[
    str | None,
    typer.Option(
        help="float32, mixed_bfloat16 or mixed_float16. Defaults to the fastest that this machine "
        "does well."
    ),
]
Width = Annotated[float, typer.Option(help="Share of VGG-16's filters; 1 for its weights.")]
Fraction = Annotated[
    float | None, typer.Option(help="Share of the neurons that one round removes.")
]
RoundTo = Annotated[int | None, typer.Option(help="Keep a multiple of this many filters.")]
HeadEpochs = Annotated[int, typer.Option(help="Epochs of the new head alone.")]
DenseEpochs = Annotated[
    int | None, typer.Option(help="Epochs of the whole network before any cut.")
]
Epochs = Annotated[int, typer.Option(help="Epochs with pruning, then fine-tuning.")]
BatchSize = Annotated[int | None, typer.Option(help="Photos a batch.")]


@command("prune-keras cats-vs-dogs --data PHOTOS --max-drop 0.01 --baseline", resumes=True)
def cats_vs_dogs(
    data: Photos = None,
    weights: Weights = "imagenet",
    image_size: ImageSize = 128,
    precision: Precision = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Convolutions in one graph, not as a nested model.")
    ] = False,
    head: Annotated[str, typer.Option(help="flatten, average or max.")] = "flatten",
    outputs: Annotated[int, typer.Option(help="1, a sigmoid, or 2, a softmax.")] = 1,
    batch_norm: Annotated[
        bool, typer.Option("--batch-norm", help="Normalize the hidden Dense layer.")
    ] = False,
    width: Width = 1.0,
    seed: Seed = 0,
    criterion: Annotated[
        str | None, typer.Option(help="auto, or see prune_keras.criteria.")
    ] = None,
    debias: Annotated[str | None, typer.Option(help="See prune_keras.debias.")] = None,
    fuse: Annotated[
        str | None, typer.Option(help="auto, weights, bias, sequential or none.")
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="auto, global, per_cost, optimal, layerwise or uniform.")
    ] = None,
    target: Targets = None,
    max_drop: MaxDrop = 0.01,
    fraction: Fraction = None,
    schedule: Schedule = None,
    round_to: RoundTo = None,
    max_epochs_per_round: Annotated[
        int | None, typer.Option(help="Epochs that a round may take to come back within max-drop.")
    ] = None,
    batches_per_round: BatchesPerRound = None,
    keep_rounds: KeepRounds = False,
    head_epochs: HeadEpochs = 15,
    dense_epochs: DenseEpochs = None,
    epochs: Epochs = 12,
    learning_rate: Annotated[
        float | None, typer.Option(help="Where the epochs with pruning start.")
    ] = None,
    batch_size: BatchSize = None,
    devices: Annotated[int, typer.Option(help="Devices that share each batch.")] = 1,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also train the dense network for as long.")
    ] = False,
    measure: Annotated[
        bool, typer.Option(help="Measure latency and memory before and after.")
    ] = True,
    output: Output = Path("prune-keras-cats-vs-dogs"),
    overwrite: Overwrite = False,
) -> None:
    """Transfer VGG-16 to cats and dogs, prune it while it is fine-tuned, export it.

    What lies in the output folder already, made with the same options, is not made again.
    """
    from prune_keras.callbacks.arguments import FRACTION
    from prune_keras.models import vgg16_transfer

    pruning = _given(
        criterion=criterion,
        debias=debias,
        scope=scope,
        target=parse_targets(target),
        max_drop=max_drop,
        fraction=fraction,
        round_to=round_to,
        max_epochs_per_round=max_epochs_per_round,
        schedule=parse_schedule(schedule),
        batches_per_round=batches_per_round,
        keep_rounds=keep_rounds or None,
    )
    if fuse is not None:
        pruning["fuse"] = parse_fuse(fuse)
    # The run has its own fraction and epochs; they go where something else takes their place.
    if schedule is not None:
        pruning = {"fraction": FRACTION} | pruning
    if batches_per_round is not None:
        pruning = {"max_epochs_per_round": None} | pruning
    network = {"nested": not flat, "head": head, "outputs": outputs}
    result = vgg16_transfer.run(
        output,
        data=data,
        weights=None if weights == "none" else weights,
        devices=devices,
        head_epochs=head_epochs,
        network=network | {"batch_norm": batch_norm, "width": width},
        measure=measure,
        overwrite=overwrite,
        image_size=image_size,
        precision=precision,
        seed=seed,
        epochs=epochs,
        dense_epochs=dense_epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        baseline=baseline,
        pruning=pruning,
    )
    console.show_run(result, output)


@command("prune-keras compare --data PHOTOS", resumes=True)
def compare(
    data: Photos = None,
    weights: Weights = "imagenet",
    image_size: ImageSize = 128,
    precision: Precision = None,
    width: Width = 1.0,
    flops: Annotated[float, typer.Option(help="Share of the FLOPs that may remain.")] = 0.4,
    way: Annotated[
        list[str] | None,
        typer.Option(metavar="WAY", help="One to compare; repeat for several; else all."),
    ] = None,
    fraction: Fraction = None,
    round_to: RoundTo = None,
    head_epochs: HeadEpochs = 15,
    dense_epochs: DenseEpochs = None,
    epochs: Epochs = 12,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    output: Output = Path("prune-keras-comparison"),
    overwrite: Overwrite = False,
) -> None:
    """Compare ways to prune VGG-16 for cats and dogs, at equal epochs and equal FLOPs."""
    from prune_keras.models import comparison

    rows = comparison.run(
        output,
        flops=flops,
        ways=way,
        pruning=_given(fraction=fraction, round_to=round_to),
        overwrite=overwrite,
        data=data,
        weights=None if weights == "none" else weights,
        network={"width": width},
        head_epochs=head_epochs,
        image_size=image_size,
        precision=precision,
        seed=seed,
        epochs=epochs,
        dense_epochs=dense_epochs,
        batch_size=batch_size,
    )
    columns = ("way", "val_accuracy", "test_accuracy", "params", "flops")
    console.show_table("At equal epochs", [{name: row[name] for name in columns} for row in rows])
    console.say(f"Tables and pictures: {output}")


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given; the others keep the defaults of the run."""
    return {name: value for name, value in options.items() if value is not None}

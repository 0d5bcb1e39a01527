"""Commands that train: `demo`, `cifar10` and `cats-vs-dogs`."""

from pathlib import Path
from typing import Annotated

import typer

from prune_keras import console
from prune_keras.cli.application import command
from prune_keras.cli.options import (
    Criterion,
    Debias,
    Fraction,
    MaxDrop,
    Output,
    Scope,
    Seed,
    Targets,
    parse_targets,
)


@command
def demo(
    output: Output = Path("prune-keras-demo"),
    max_drop: MaxDrop = 0.01,
    seed: Seed = 0,
    dense_epochs: Annotated[int, typer.Option(help="Epochs before any cut.")] = 15,
    epochs: Annotated[int, typer.Option(help="Epochs with pruning, then fine-tuning.")] = 22,
):
    """Train a small network on scikit-learn's digits, prune it, export it. Needs no download."""
    from prune_keras.models import digits

    result = digits.run(
        output, seed=seed, dense_epochs=dense_epochs, epochs=epochs, max_drop=max_drop
    )
    console.show_run(result, output)


@command
def cifar10(
    data: Annotated[
        Path | None,
        typer.Option(
            help="An .npz file with x_train, y_train, x_test, y_test. Defaults to cifar10.npz in "
            "the folder $PRUNE_KERAS_DATA, else to what Keras downloads."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="stack, batch-norm-stack, resnet20, resnet20-b (or another depth 6n + 2), or a "
            ".keras or .h5 file."
        ),
    ] = "stack",
    precision: Annotated[
        str, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")
    ] = "float32",
    seed: Seed = 0,
    criterion: Criterion = "l2",
    debias: Debias = "mean",
    scope: Scope = "global",
    target: Targets = None,
    max_drop: MaxDrop = None,
    fraction: Fraction = 0.1,
    epochs_per_round: Annotated[
        int, typer.Option(help="Epochs of fine-tuning after each cut, at least.")
    ] = 1,
    max_epochs_per_round: Annotated[
        int | None, typer.Option(help="Epochs that a round may take to come back within max-drop.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs with pruning, then fine-tuning.")
    ] = None,
    fine_tune_epochs: Annotated[
        int | None, typer.Option(help="How many of them, the last ones, go without a cut.")
    ] = None,
    dense_epochs: Annotated[
        int | None, typer.Option(help="Epochs of a dense network that is not there yet.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or sgd.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Where the epochs with pruning start.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a batch.")] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also train the dense network for as long.")
    ] = False,
    output: Output = Path("prune-keras-cifar10"),
):
    """Train or load a CIFAR-10 network, prune it while it trains on, export it.

    A dense network that lies in the output folder already is not trained again.
    """
    from prune_keras.models import cifar10 as run

    pruning = {"criterion": criterion, "debias": debias, "scope": scope, "fraction": fraction}
    pruning |= {"target": parse_targets(target), "max_drop": max_drop}
    pruning |= {"epochs_per_round": epochs_per_round, "max_epochs_per_round": max_epochs_per_round}
    result = run.run(
        output,
        model=model,
        path=data,
        precision=precision,
        seed=seed,
        epochs=epochs,
        fine_tune_epochs=fine_tune_epochs,
        dense_epochs=dense_epochs,
        optimizer=optimizer,
        learning_rate=learning_rate,
        batch_size=batch_size,
        baseline=baseline,
        pruning=pruning,
        verbose=2,
    )
    console.show_run(result, output)


@command
def cats_vs_dogs(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with train/, validation/ and test/, each with cats/ and dogs/, or with "
            "Kaggle's cat.0.jpg and dog.0.jpg. Defaults to cats_vs_dogs in $PRUNE_KERAS_DATA."
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="imagenet, which Keras downloads, or an .h5 file.")
    ] = "imagenet",
    image_size: Annotated[int, typer.Option(help="Height and width of the photos.")] = 128,
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32, mixed_bfloat16 or mixed_float16. Defaults to the fastest that this "
            "machine does well."
        ),
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Convolutions in one graph, not as a nested model.")
    ] = False,
    head: Annotated[str, typer.Option(help="flatten, average or max.")] = "flatten",
    outputs: Annotated[int, typer.Option(help="1, a sigmoid, or 2, a softmax.")] = 1,
    batch_norm: Annotated[
        bool, typer.Option("--batch-norm", help="Normalize the hidden Dense layer.")
    ] = False,
    width: Annotated[
        float, typer.Option(help="Share of VGG-16's filters; less than 1 for --weights none.")
    ] = 1.0,
    seed: Seed = 0,
    criterion: Annotated[str | None, typer.Option(help="See prune_keras.criteria.")] = None,
    debias: Annotated[str | None, typer.Option(help="See prune_keras.debias.")] = None,
    fuse: Annotated[str | None, typer.Option(help="weights, bias or none.")] = None,
    scope: Annotated[str | None, typer.Option(help="global, layerwise or uniform.")] = None,
    target: Targets = None,
    max_drop: MaxDrop = 0.01,
    fraction: Annotated[
        float | None, typer.Option(help="Share of the neurons that one round removes.")
    ] = None,
    round_to: Annotated[
        int | None, typer.Option(help="Keep a multiple of this many filters.")
    ] = None,
    max_epochs_per_round: Annotated[
        int | None, typer.Option(help="Epochs that a round may take to come back within max-drop.")
    ] = None,
    head_epochs: Annotated[int, typer.Option(help="Epochs of the new head alone.")] = 15,
    dense_epochs: Annotated[
        int | None, typer.Option(help="Epochs of the whole network before any cut.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs with pruning, then fine-tuning.")] = 12,
    learning_rate: Annotated[
        float | None, typer.Option(help="Where the epochs with pruning start.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos a batch.")] = None,
    devices: Annotated[int, typer.Option(help="Devices that share each batch.")] = 1,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also train the dense network for as long.")
    ] = False,
    measure: Annotated[
        bool, typer.Option(help="Measure latency and memory before and after.")
    ] = True,
    output: Output = Path("prune-keras-cats-vs-dogs"),
):
    """Transfer VGG-16 to cats and dogs, prune it while it is fine-tuned, export it.

    What lies in the output folder already, made with the same options, is not made again.
    """
    from prune_keras.models import vgg16_transfer

    pruning = {"criterion": criterion, "debias": debias, "fuse": fuse, "scope": scope}
    pruning |= {"fraction": fraction, "round_to": round_to, "target": parse_targets(target)}
    pruning |= {"max_drop": max_drop, "max_epochs_per_round": max_epochs_per_round}
    network = {"nested": not flat, "head": head, "outputs": outputs}
    result = vgg16_transfer.run(
        output,
        data=data,
        weights=None if weights == "none" else weights,
        devices=devices,
        head_epochs=head_epochs,
        network=network | {"batch_norm": batch_norm, "width": width},
        measure=measure,
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

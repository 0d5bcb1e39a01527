"""Commands that train a network for small images: `demo` and `cifar10`."""

from pathlib import Path
from typing import Annotated

import typer

from prune_keras.cli import console
from prune_keras.cli.application import command
from prune_keras.cli.options import (
    BatchesPerRound,
    Criterion,
    Debias,
    Fraction,
    Fuse,
    KeepRounds,
    MaxDrop,
    Output,
    Overwrite,
    Schedule,
    Scope,
    Seed,
    Targets,
    parse_fuse,
    parse_schedule,
    parse_targets,
)


@command("prune-keras demo", resumes=True)
def demo(
    output: Output = Path("prune-keras-demo"),
    max_drop: MaxDrop = 0.01,
    seed: Seed = 0,
    dense_epochs: Annotated[int, typer.Option(help="Epochs before any cut.")] = 15,
    epochs: Annotated[int, typer.Option(help="Epochs with pruning, then fine-tuning.")] = 22,
    overwrite: Overwrite = False,
) -> None:
    """Train a small network on scikit-learn's digits, prune it, export it. Needs no download."""
    from prune_keras.models import digits

    result = digits.run(
        output,
        overwrite,
        seed=seed,
        dense_epochs=dense_epochs,
        epochs=epochs,
        max_drop=max_drop,
    )
    console.show_run(result, output)


@command("prune-keras cifar10 --data cifar10.npz --target flops=0.5", resumes=True)
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
    criterion: Criterion = "auto",
    debias: Debias = "auto",
    fuse: Fuse = "auto",
    scope: Scope = "auto",
    target: Targets = None,
    max_drop: MaxDrop = None,
    fraction: Fraction = 0.1,
    schedule: Schedule = None,
    epochs_per_round: Annotated[
        int, typer.Option(help="Epochs of fine-tuning after each cut, at least.")
    ] = 1,
    max_epochs_per_round: Annotated[
        int | None, typer.Option(help="Epochs that a round may take to come back within max-drop.")
    ] = None,
    batches_per_round: BatchesPerRound = None,
    keep_rounds: KeepRounds = False,
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
    overwrite: Overwrite = False,
) -> None:
    """Train or load a CIFAR-10 network, prune it while it trains on, export it.

    What lies in the output folder already, made with the same options, is not made again.
    """
    from prune_keras.models import cifar10 as run

    pruning = {"criterion": criterion, "debias": debias, "scope": scope, "fraction": fraction}
    pruning |= {"target": parse_targets(target), "max_drop": max_drop}
    pruning |= {"epochs_per_round": epochs_per_round, "max_epochs_per_round": max_epochs_per_round}
    pruning |= {"fuse": parse_fuse(fuse), "schedule": parse_schedule(schedule)}
    pruning |= {"batches_per_round": batches_per_round, "keep_rounds": keep_rounds}
    result = run.run(
        output,
        model=model,
        path=data,
        overwrite=overwrite,
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

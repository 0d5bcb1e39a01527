"""The command line: `prune-keras demo`, `cifar10`, `prune` and `inspect`.

Keras is imported inside the commands, so that `--help` answers at once. A mistake in the arguments
ends in one message and exit code 2.
"""

import functools
import os
from pathlib import Path
from typing import Annotated

import typer

from prune_keras import console

app = typer.Typer(
    help="Make trained Keras models physically thinner, neuron by neuron.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

ModelFile = Annotated[Path, typer.Argument(help="A .keras or .h5 file.", metavar="MODEL")]
Seed = Annotated[int, typer.Option(help="Seeds weights, order of the images, and ties.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for everything it writes.")]
MaxDrop = Annotated[
    float | None, typer.Option(help="Validation accuracy that may be lost, e.g. 0.01.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="METRIC=SHARE",
        help="Share that may remain: params=0.5, flops=0.5 or neurons=0.5; repeat for several.",
    ),
]
Criterion = Annotated[
    str, typer.Option(help="l1, l2, random, or from data: apoz, mean_activation, taylor.")
]
Debias = Annotated[str, typer.Option(help="Makes layers comparable: none, mean, l2, zscore, rank.")]
Scope = Annotated[str, typer.Option(help="global, layerwise or uniform.")]
Fraction = Annotated[float, typer.Option(help="Share of the neurons that one round removes.")]
InputShape = Annotated[
    str | None,
    typer.Option(help="Sizes of one input without the batch, e.g. 224,224,3, if unknown."),
]


def main():
    """Run the command line; the entry point `prune-keras`."""
    app()


def _readable(command):
    """Let a command end in one message, not in a traceback, when its arguments are wrong."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        # TensorFlow reads it when it is first imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            return command(*args, **kwargs)
        except ModuleNotFoundError as error:
            hint = "Install a backend for Keras: pip install 'prune-keras[cpu]'"
            _fail(f"{error}. {hint}, or set KERAS_BACKEND to the one that is there.")
        except (ValueError, OSError) as error:
            _fail(str(error))

    return wrapped


@app.command()
@_readable
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


@app.command()
@_readable
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


@app.command()
@_readable
def prune(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .keras or .h5 to write.")],
    target: Targets = None,
    fraction: Annotated[
        float | None, typer.Option(help="Share of the neurons to remove, instead of a target.")
    ] = None,
    criterion: Annotated[str, typer.Option(help="l1, l2 or random.")] = "l2",
    debias: Debias = "mean",
    scope: Scope = "global",
    min_units: Annotated[int, typer.Option(help="Units that every layer keeps.")] = 1,
    max_layer_fraction: Annotated[
        float, typer.Option(help="Share of its units that a layer loses at most.")
    ] = 1.0,
    round_to: Annotated[int, typer.Option(help="Keep a multiple of this many units.")] = 1,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Name or pattern of a layer to keep; repeatable.")
    ] = None,
    input_shape: InputShape = None,
    seed: Seed = 0,
):
    """Prune a model at once, without data or training."""
    import prune_keras
    from prune_keras.models.networks import read_model

    thin, report = prune_keras.prune(
        read_model(model),
        target=parse_targets(target),
        fraction=fraction,
        criterion=criterion,
        debias=debias,
        scope=scope,
        min_units=min_units,
        max_layer_fraction=max_layer_fraction,
        round_to=round_to,
        exclude=exclude or (),
        input_shape=parse_shape(input_shape),
        seed=seed,
    )
    prune_keras.export(thin, output)
    console.say(report.render())
    console.say(f"Wrote {output}")


@app.command()
@_readable
def inspect(model: ModelFile, input_shape: InputShape = None):
    """Show layers, families, neurons, parameters, FLOPs, and what cannot be pruned and why."""
    import prune_keras
    from prune_keras.models.networks import read_model

    network = read_model(model)
    console.show_graph(network, prune_keras.trace(network, parse_shape(input_shape)))


def parse_targets(texts):
    """Return `{metric: share}` of texts such as `"params=0.5"`; `None` if there are none.

    Raises:
        ValueError: if a text is not of this form.

    Example:

    >>> parse_targets(["params=0.5", "flops=0.25"])
    {'params': 0.5, 'flops': 0.25}
    """
    if not texts:
        return None
    try:
        pairs = (text.split("=") for text in texts)
        return {metric: float(share) for metric, share in pairs}
    except ValueError as error:
        raise ValueError(
            "A target must be a metric and the share of it that may remain. "
            f"Received: --target {' --target '.join(texts)}. Write, say, --target params=0.5."
        ) from error


def parse_shape(text):
    """Return the tuple of sizes in a text such as `"224,224,3"`; `None` for `None`.

    Raises:
        ValueError: if a size is no whole number.
    """
    if text is None:
        return None
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise ValueError(
            "The input shape must be whole numbers between commas. "
            f"Received: --input-shape {text}. Write, say, --input-shape 224,224,3."
        ) from error


def _fail(message):
    console.complain(f"Error: {message}")
    raise typer.Exit(2)


if __name__ == "__main__":
    main()

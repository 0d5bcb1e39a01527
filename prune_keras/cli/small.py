"""The command that does all on the way to a device, one after another: `shrink`."""

from pathlib import Path
from typing import Annotated

import typer

from prune_keras import backups
from prune_keras.cli import console
from prune_keras.cli.application import command
from prune_keras.cli.options import ModelFile, Output, Seed, Targets, parse_targets

BACKUP = "backup"
"""Folder in the run's, of a run that has not ended."""


@command(
    "prune-keras shrink model.keras --data cifar10.npz --target flops=0.5 --int8", resumes=True
)
def shrink(
    model: ModelFile,
    data: Annotated[Path, typer.Option(help="An .npz file with x_train, y_train, x_test, y_test.")],
    target: Targets = None,
    teacher: Annotated[
        str,
        typer.Option(help="start for the model as it is, none, or a .keras or .h5 file."),
    ] = "start",
    int8: Annotated[
        bool, typer.Option("--int8", help="Go on to eight bits, in LiteRT files.")
    ] = False,
    epochs: Annotated[int, typer.Option(help="Epochs with pruning, then fine-tuning.")] = 5,
    int8_epochs: Annotated[int, typer.Option(help="Epochs of fine-tuning for eight bits.")] = 1,
    learning_rate: Annotated[
        float, typer.Option(help="Of Adam, for a model that is not compiled.")
    ] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Images a batch.")] = 64,
    seed: Seed = 0,
    output: Output = Path("prune-keras-shrink"),
) -> None:
    """Prune a classifier in rounds, distil, fine-tune for eight bits, and export each stage."""
    import keras

    import prune_keras
    from prune_keras.cli.guarded import read_model
    from prune_keras.models.images import read_npz, split
    from prune_keras.models.settings import accuracy_for, loss_for

    keras.utils.set_random_seed(seed)
    network = read_model(model, compile=True)
    images = split(*read_npz(data))
    if not network.compiled:
        prune_keras.trace(network)  # which looks into a `call` of its own
        optimizer = keras.optimizers.Adam(learning_rate)
        network.compile(optimizer, loss_for(network), metrics=[accuracy_for(network)])
    taught = {"start": "start", "none": None}
    shrunk = prune_keras.shrink_to(
        network,
        parse_targets(target) or {"flops": 0.5},
        images.train,
        images.validation,
        output,
        epochs=epochs,
        teacher=taught[teacher] if teacher in taught else read_model(Path(teacher)),
        int8=int8,
        int8_epochs=int8_epochs,
        batch_size=batch_size,
        backup_dir=output / BACKUP,
    )
    backups.delete(output / BACKUP)
    console.show_report(shrunk)
    console.say(f"Wrote {output}")

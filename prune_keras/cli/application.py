"""The application that commands add themselves to, and how they end when arguments are wrong."""

import functools
import os

import typer

from prune_keras.cli import console

app = typer.Typer(
    help="Make trained Keras models physically thinner, neuron by neuron.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def command(function):
    """Add a command, one that ends in one message, not in a traceback, if arguments are wrong."""
    return app.command()(_readable(function))


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


def _fail(message):
    console.complain(f"Error: {message}")
    raise typer.Exit(2)

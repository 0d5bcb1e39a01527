"""The command line: `prune-keras`, one module for the commands of a kind.

Keras is imported inside the commands, so that `--help` answers at once. What goes wrong
ends in one line and exit code 2 where the arguments are at fault, else 1.
"""

from prune_keras.cli import files, measuring, photos, small, training  # noqa: F401, they add
from prune_keras.cli.application import app
from prune_keras.cli.guarded import forks
from prune_keras.cli.options import parse_shape, parse_targets

__all__ = ["app", "main", "parse_shape", "parse_targets"]


def main() -> None:
    """Run the command line; the entry point `prune-keras`."""
    with forks():
        app()

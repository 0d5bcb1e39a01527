"""Commands as a user runs them, in this process."""

import keras
from typer.testing import CliRunner

from prune_keras import cli


def call(*arguments):
    """Run a command and return its result; what is no message for the user raises here."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments):
    """Run a command that must succeed, and return what it prints."""
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def small_model(name="small"):
    """A convolution, a nested pair of Dense layers, and a classifier."""
    head = keras.Sequential(
        [keras.Input((24,)), keras.layers.Dense(10, name="hidden")], name="head"
    )
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(6, 3, name="conv")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm")(x))
    x = head(keras.layers.Flatten()(x))
    return keras.Model(
        inputs, keras.layers.Dense(4, activation="softmax", name="classes")(x), name=name
    )

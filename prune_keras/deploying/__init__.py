"""Deploying: write a model for a runtime that is not Keras, run it there, and compare."""

from prune_keras.deploying.deployed import deploy
from prune_keras.deploying.formats import FORMATS, Format, format_of

__all__ = ["FORMATS", "Format", "deploy", "format_of"]

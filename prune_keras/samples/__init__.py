"""Samples: batches of what a user holds, and one pass of them over a model."""

from prune_keras.samples.batches import Samples, batches
from prune_keras.samples.inputs import check_data
from prune_keras.samples.subject import Subject

__all__ = ["Samples", "Subject", "batches", "check_data"]

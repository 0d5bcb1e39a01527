"""Rounds: one cut and what follows it, again and again, until a model is as thin as it is to be.

Nothing here knows of a running `fit`; `prune_keras.callbacks` drives a course from there.
"""

from prune_keras.rounds.course import Course
from prune_keras.rounds.round import Round

__all__ = ["Course", "Round"]

"""Teaching: a model that is trained also learns from another one, or from what it was."""

from prune_keras.teaching.lessons import Lessons
from prune_keras.teaching.teacher import Teacher

__all__ = ["Lessons", "Teacher"]

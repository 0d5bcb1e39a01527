"""Selection: from scores to a plan, under limits and within a budget.

Everything here is arithmetic on arrays. Neurons are sorted by debiased score and removed from the
lowest up, in blocks of `round_to`, until the budget is met; a family that meets a limit is left.
"""

from prune_keras.selection.choice import choose, select

__all__ = ["choose", "select"]

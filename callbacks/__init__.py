"""Callbacks for `model.fit`; installed as `prune_keras.callbacks`."""

from prune_keras.callbacks.progressive_pruning import ProgressivePruning, Round

__all__ = ["ProgressivePruning", "Round"]

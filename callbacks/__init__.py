"""Callbacks for `model.fit`; installed as `prune_keras.callbacks`."""

from prune_keras.backups import Backup
from prune_keras.callbacks.progressive_pruning import ProgressivePruning
from prune_keras.callbacks.score_history import ScoreHistory
from prune_keras.rounds.judge import Judge
from prune_keras.rounds.round import Round

__all__ = ["Backup", "Judge", "ProgressivePruning", "Round", "ScoreHistory"]

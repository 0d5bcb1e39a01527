"""Callbacks for `model.fit`; installed as `prune_keras.callbacks`."""

from prune_keras.backups import Backup
from prune_keras.callbacks.distillation import Distillation
from prune_keras.callbacks.penalized import GroupPenalty, ScaleSparsity
from prune_keras.callbacks.progressive_pruning import ProgressivePruning
from prune_keras.callbacks.quantization_aware import QuantizationAware
from prune_keras.callbacks.score_history import ScoreHistory
from prune_keras.callbacks.sensitivity_regularization import SensitivityRegularization
from prune_keras.callbacks.targeted_dropout import TargetedDropout
from prune_keras.rounds.fine_tuning import FineTuning
from prune_keras.rounds.judge import Judge
from prune_keras.rounds.round import Round
from prune_keras.teaching.factors import Factors
from prune_keras.teaching.teacher import Teacher

__all__ = [
    "Backup",
    "Distillation",
    "Factors",
    "FineTuning",
    "GroupPenalty",
    "Judge",
    "ProgressivePruning",
    "QuantizationAware",
    "Round",
    "ScaleSparsity",
    "ScoreHistory",
    "SensitivityRegularization",
    "TargetedDropout",
    "Teacher",
]

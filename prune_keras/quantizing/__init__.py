"""Quantizing: what a model becomes in eight bits, while it trains and in a LiteRT file."""

from prune_keras.quantizing.litert import check_model
from prune_keras.quantizing.quantization import Quantization, calibrate

__all__ = ["Quantization", "calibrate", "check_model"]

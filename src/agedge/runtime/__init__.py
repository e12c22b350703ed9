"""Models on disk with their cards, run by MXNet, ONNX Runtime or ncnn with the same results."""

from agedge.runtime.card import Card, load_card
from agedge.runtime.model import Model, Prediction, load_model
from agedge.runtime.model_files import save_model

__all__ = ["Card", "Model", "Prediction", "load_card", "load_model", "save_model"]

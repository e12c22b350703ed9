"""Weights of earlier systems (Keras, PyTorch, MXNet) -> the networks of this house."""

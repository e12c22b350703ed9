"""A model on disk with its card, run by MXNet, ONNX Runtime or ncnn: the same question, the same answer."""

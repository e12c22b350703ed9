"""From a trained network to files for phones: slim its graph, write ONNX and ncnn, prove that they say the same."""

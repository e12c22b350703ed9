"""Convert a trained network to files for phones: slim its graph, write ONNX and ncnn, and compare them with MXNet."""

"""Convert a slim model to other formats: ONNX, with the fixes that MXNet's exporter needs, and ncnn."""

"""MTCNN: three small networks on an image pyramid."""

"""Data for face detectors: annotate images, compose scenes."""

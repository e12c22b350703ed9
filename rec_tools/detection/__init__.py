"""Make data for face detectors: annotate images, compose scenes."""

"""ESSH: one network with anchors, run on views of an image and again on doubtful faces."""

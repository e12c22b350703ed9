"""ESSH: one network with anchors, and how it looks at large images and unsure faces."""

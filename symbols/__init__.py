"""The networks: backbones, heads and losses, built by name.

>>> import symbols
>>> network = symbols.create("mobilenet025", age_head="distribution")
"""

# Importing these modules registers their networks.
from symbols import aec, agmixer, c3ae, efficientnetv2, essh, gluoncv_zoo, mobilenet, resnet, ssrnet  # noqa: F401
from symbols.registry import create, detectors, names

__all__ = ["create", "detectors", "names"]

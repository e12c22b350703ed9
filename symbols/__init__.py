"""The networks: backbones, heads and losses, built by name.

>>> import symbols
>>> network = symbols.create("mobilenet025", age_head="distribution")
"""

from symbols import mobilenet  # noqa: F401  (registers its networks)
from symbols.registry import create, names

__all__ = ["create", "names"]

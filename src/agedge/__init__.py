"""agedge: age and gender at the edge. What every step shares, and all that a finished model needs to run."""

__version__ = "0.1.0"

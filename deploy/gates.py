"""How far an exported model may be from the MXNet model that it came from.

Gates are absolute, on the outputs as they are: an age in years, a probability or a logit. Two float32 computations
never agree exactly, and an expected age multiplies the rounding of its logits by the width of its distribution.
Measured against float64, MXNet and ONNX Runtime are equally far from the truth. Between the two were 3e-5 years on
1,000 faces with a MobileNet 0.25 after two epochs, and 1e-5 in the logits of an earlier checkpoint; random networks
with steep heads differed by 1e-4 and 2e-4, over ONNX's gate, by rounding alone.
"""

from dataclasses import dataclass
from typing import Dict, Optional

import numpy as np


@dataclass(frozen=True)
class Difference:
    """Of one output over all faces: the largest and the mean absolute difference."""

    most: float
    mean: float


@dataclass(frozen=True)
class Gate:
    """Largest and mean difference that pass, of any output; None: not looked at. `flips`: genders that may change."""

    most: Optional[float] = None
    mean: Optional[float] = None
    flips: Optional[int] = None

    def fault(self, differences: Dict[str, Difference]) -> str:
        """What is over the gate, or ""."""
        for name, off in differences.items():
            for limit, found, word in ((self.most, off.most, "at most"), (self.mean, off.mean, "on average")):
                if limit is not None and not found <= limit:  # NaN is over it too
                    return f"{name} differs by {found:.3g} {word}, over the gate of {limit:g}"
        return ""


GATES = {
    "onnx": Gate(most=1e-4),
    "ncnn": Gate(most=5e-4),
    # Half precision moves ages by hundredths of a year; what counts is the mean, and that nobody changes gender.
    "ncnn-fp16": Gate(mean=0.1, flips=0),
}


def compare_raw(ours: Dict[str, np.ndarray], theirs: Dict[str, np.ndarray]) -> Dict[str, Difference]:
    """Differences by output, from the raw outputs (n, k) of two models for the same faces."""
    differences = {}
    for name, value in ours.items():
        off = np.abs(theirs[name].astype(np.float64) - value)
        differences[name] = Difference(float(off.max()), float(off.mean()))
    return differences

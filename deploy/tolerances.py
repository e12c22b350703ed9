"""How far an exported model may be from the MXNet model that it came from.

Gates are on the outputs as they are: an age in years, a probability or a logit. Two float32 computations never agree
exactly, and an expected age multiplies the rounding of its logits by the width of its distribution: measured against
float64, MXNet and ONNX Runtime are equally far from the truth. The shipped model's ages differ by at most 7.6e-5 years
on the first 1,000 validation faces and by 1.1e-4 on 3,000 of FairFace. So what a gate is held against is the difference
beyond `ROUNDING` times the value, some 16 units in float32's last place: 1e-4 years at the age of 50.
"""

from dataclasses import dataclass
from typing import Dict, Optional

import numpy as np

ROUNDING = 2e-6


@dataclass(frozen=True)
class Difference:
    """Of one output over all faces: the largest and the mean absolute difference, and the largest beyond rounding."""

    most: float
    mean: float
    beyond: float


@dataclass(frozen=True)
class Gate:
    """Largest difference beyond rounding, and mean difference, that pass, of any output; None: not looked at. `flips`:
    genders that may change."""

    most: Optional[float] = None
    mean: Optional[float] = None
    flips: Optional[int] = None

    def fault(self, differences: Dict[str, Difference]) -> str:
        """What is over the gate, or ""."""
        for name, off in differences.items():
            for limit, found, word in (
                (self.most, off.beyond, "at most, beyond rounding"),
                (self.mean, off.mean, "on average"),
            ):
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
    """Differences by output, from the raw outputs (n, k) of two models for the same faces; an output of another shape
    is infinitely far."""
    differences = {}
    for name, value in ours.items():
        if theirs[name].shape != value.shape:
            differences[name] = Difference(np.inf, np.inf, np.inf)
            continue
        off = np.abs(theirs[name].astype(np.float64) - value)
        beyond = np.maximum(off - ROUNDING * np.abs(value), 0)  # NaN stays NaN
        differences[name] = Difference(float(off.max()), float(off.mean()), float(beyond.max()))
    return differences

"""Tolerances: how far an exported model may be from the MXNet model that it was made from.

Outputs are compared as they are: an age in years, a probability or a logit. Two float32 computations never agree
exactly, and an expected age multiplies the rounding of its logits by the width of its distribution: measured against
float64, MXNet and ONNX Runtime are equally far from the truth. The shipped model's ages differ by at most 7.6e-5 years
on the first 1,000 validation faces and by 1.1e-4 on 3,000 of FairFace. So a tolerance applies to the difference beyond
`ROUNDING` times the value, some 16 units in float32's last place: 1e-4 years at the age of 50.
"""

from dataclasses import dataclass
from typing import Dict, Optional

import numpy as np

ROUNDING = 2e-6


@dataclass(frozen=True)
class Difference:
    """The absolute differences of one output over all faces: largest, mean, and the largest beyond rounding."""

    most: float
    mean: float
    beyond: float


@dataclass(frozen=True)
class Tolerance:
    """The differences that are accepted, of any output; None: not checked.

    `most`: the largest difference beyond rounding. `mean`: the mean difference. `flips`: how many faces may change
    gender.
    """

    most: Optional[float] = None
    mean: Optional[float] = None
    flips: Optional[int] = None

    def find_fault(self, differences: Dict[str, Difference]) -> str:
        """Return which output is over the tolerance and by how much, or ""."""
        for name, off in differences.items():
            for limit, found, where in (
                (self.most, off.beyond, "at most, beyond rounding"),
                (self.mean, off.mean, "on average"),
            ):
                if limit is not None and not found <= limit:  # NaN is over it too
                    return f"{name} differs by {found:.3g} {where}, over the tolerance of {limit:g}"
        return ""


TOLERANCES = {
    "onnx": Tolerance(most=1e-4),
    "ncnn": Tolerance(most=5e-4),
    # Half precision moves ages by hundredths of a year: their mean is checked, and that no face changes gender.
    "ncnn-fp16": Tolerance(mean=0.1, flips=0),
}


def compare_raw(ours: Dict[str, np.ndarray], theirs: Dict[str, np.ndarray]) -> Dict[str, Difference]:
    """Compare the raw outputs (n, k) of two models for the same faces, by output.

    An output of another shape differs by infinity.
    """
    differences = {}
    for name, value in ours.items():
        if theirs[name].shape != value.shape:
            differences[name] = Difference(np.inf, np.inf, np.inf)
            continue
        off = np.abs(theirs[name].astype(np.float64) - value)
        beyond = np.maximum(off - ROUNDING * np.abs(value), 0)  # NaN stays NaN
        differences[name] = Difference(float(off.max()), float(off.mean()), float(beyond.max()))
    return differences

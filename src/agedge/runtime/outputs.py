"""From what a network says to years and P(male), by what the card calls its outputs.

A network of ours has two outputs, `age` in years and `p_male`. The checkpoints of the earlier MXNet trainer have one of
202 numbers: two gender logits (female, male), then 100 pairs of logits, pair k asking "older than k?".
"""

from dataclasses import dataclass
from typing import Dict

import numpy as np

from agedge.errors import AgedgeError

OURS = {"age": "years", "p_male": "probability"}
PAIRS = "gender logits and 100 pairs"
PAIRS_WIDTH = 202


@dataclass(frozen=True)
class Prediction:
    """Of n faces: `age` (n,) float32 in years and `p_male` (n,) float32, the probability of being male."""

    age: np.ndarray
    p_male: np.ndarray

    @property
    def is_male(self) -> np.ndarray:
        """(n,) bool; a face at exactly 0.5 counts as female, as everywhere."""
        return self.p_male > 0.5


def recognise_outputs(widths: Dict[str, int]) -> Dict[str, str]:
    """The card's `outputs` for a network whose outputs are `widths`, name -> numbers a face."""
    if widths == {name: 1 for name in OURS}:
        return dict(OURS)
    if list(widths.values()) == [PAIRS_WIDTH]:
        return {name: PAIRS for name in widths}
    return {name: f"unknown, {width} a face" for name, width in widths.items()}


def require_known(outputs: Dict[str, str], file) -> None:
    """Raises `AgedgeError` where nobody knows how outputs become an age and a gender."""
    if outputs != OURS and list(outputs.values()) != [PAIRS]:
        said = ", ".join(f"{name} ({what})" for name, what in outputs.items())
        raise AgedgeError(
            f"{file}: outputs {said or 'none'}: known are age (1) with p_male (1), or one of {PAIRS_WIDTH} numbers"
        )


def decode(raw: Dict[str, np.ndarray], outputs: Dict[str, str]) -> Prediction:
    """Years and P(male) from the raw outputs, name -> (n, k), of a network whose outputs are known."""
    if outputs == OURS:
        return Prediction(raw["age"].reshape(-1).astype(np.float32), raw["p_male"].reshape(-1).astype(np.float32))
    return decode_pairs(next(iter(raw.values())))


def decode_pairs(fc: np.ndarray) -> Prediction:
    """(n, 202): age is the number of pairs that say "older", P(male) the softmax of the gender logits."""
    fc = fc.reshape(-1, PAIRS_WIDTH).astype(np.float32)
    pairs = fc[:, 2:].reshape(-1, 100, 2)
    age = (pairs[..., 1] > pairs[..., 0]).sum(axis=1).astype(np.float32)
    with np.errstate(over="ignore"):
        p_male = 1 / (1 + np.exp(fc[:, 0] - fc[:, 1]))
    return Prediction(age, p_male.astype(np.float32))

"""The crop: where the five landmarks of a face lie in a network's input image.

Training and inference use the same alignment: a similarity transform maps a face's landmarks (`agedge.landmarks`) to
`Crop.points`. A model's card holds the crop that it was trained with, and every runtime reads it from there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.value_equality import compare_by_value

# Five points in a square of side 1. "arcface": the usual 112x112 template of face recognition, see docs/design.md.
# "utkface": the landmarks of UTKFace's aligned chips: the median over the 1,996 faces that MTCNN finds on 2,000
# development chips, each padded by half its side, made symmetric (printed by benchmarks/chip_landmarks.py).
TEMPLATES = {
    "arcface": np.array(
        [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
    )
    / 112,
    "utkface": np.array([(0.3030, 0.2891), (0.6970, 0.2891), (0.5000, 0.5237), (0.3239, 0.6951), (0.6761, 0.6951)]),
}


@compare_by_value
@dataclass(frozen=True)
class Crop:
    """Target landmarks: `points` (5, 2) x, y in pixels of a square image of side `size`. Borders are replicated."""

    size: int
    points: np.ndarray

    @classmethod
    def named(cls, template: str, size: int, margin: float = 0.0) -> "Crop":
        """Return a template at `size` pixels. `margin` shrinks it about its centre: 0.25 shows 25% more per axis."""
        if template not in TEMPLATES:
            raise choices("crop", template, TEMPLATES)
        return cls(size, (0.5 + (TEMPLATES[template] - 0.5) / (1 + margin)) * size)

    def resized(self, size: int) -> "Crop":
        """Return the same crop for a network with another input size."""
        return Crop(size, self.points * (size / self.size))

    def to_json(self) -> dict:
        """Return the crop as it is written in a card or beside a record file."""
        return {"size": self.size, "points": np.round(self.points, 4).tolist(), "border": "replicate"}

    @classmethod
    def from_json(cls, value: dict, file: Union[str, Path] = "card.json") -> "Crop":
        """Return the crop of `to_json`. Raises `AgedgeError` that names `file` if it is not one."""
        try:
            crop = cls(int(value["size"]), np.array(value["points"], np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise AgedgeError(f"{file}: crop is missing or invalid: {error!r}") from error
        if crop.size < 1 or crop.points.shape != (5, 2) or not np.isfinite(crop.points).all():
            raise AgedgeError(f"{file}: crop must have a size and five points, not {value}")
        return crop

    def same_as(self, other: "Crop", tolerance: float = 0.02) -> bool:
        """Return whether two crops agree at any size: points closer than `tolerance` times the image's side."""
        return bool(np.abs(self.points / self.size - other.points / other.size).max() <= tolerance)

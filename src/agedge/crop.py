"""The crop contract: where the five landmarks of a face lie in the image that a network sees.

One alignment for training and for use: a similarity transform takes a face's landmarks (left eye, right eye, nose, left
mouth corner, right mouth corner, as seen in the image) to `Crop.points`. The crop that a model was trained with stands
in its card, and every runtime reads it there.
"""

from dataclasses import dataclass

import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.value_equality import compare_by_value

# Five points in a square of side 1. "arcface": the usual 112x112 template of face recognition, see DESIGN's contract.
# "utkface": where the landmarks of UTKFace's aligned chips lie: the median over the faces that MTCNN finds on 2,000
# development chips (1,996), each padded by half its side, made symmetric (benchmarks/chip_landmarks.py prints it).
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
    """Where landmarks go: `points` (5, 2) x, y in pixels of a square image of side `size`; the border is replicated."""

    size: int
    points: np.ndarray

    @classmethod
    def named(cls, template: str, size: int, margin: float = 0.0) -> "Crop":
        """A template at `size` pixels. `margin` shrinks it about its centre: 0.25 shows 25% more on each axis."""
        if template not in TEMPLATES:
            raise choices("crop", template, TEMPLATES)
        return cls(size, (0.5 + (TEMPLATES[template] - 0.5) / (1 + margin)) * size)

    def resized(self, size: int) -> "Crop":
        """The same crop for a network with another input size."""
        return Crop(size, self.points * (size / self.size))

    def to_json(self) -> dict:
        return {"size": self.size, "points": np.round(self.points, 4).tolist(), "border": "replicate"}

    @classmethod
    def from_json(cls, value: dict, file="card.json") -> "Crop":
        try:
            crop = cls(int(value["size"]), np.array(value["points"], np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise AgedgeError(f"{file}: no crop in it: {error!r}") from error
        if crop.size < 1 or crop.points.shape != (5, 2) or not np.isfinite(crop.points).all():
            raise AgedgeError(f"{file}: a crop has a size and five points, this one is {value}")
        return crop

    def same_as(self, other: "Crop", tolerance: float = 0.02) -> bool:
        """Whether both show a face alike, whatever their size: points within `tolerance` of the image's side."""
        return bool(np.abs(self.points / self.size - other.points / other.size).max() <= tolerance)

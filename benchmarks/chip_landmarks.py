"""Measure the five landmarks of UTKFace's aligned chips: the "utkface" template of src/agedge/crop.py.

    python -m benchmarks.chip_landmarks [--root data/UTKFace] [--count 2000]

MTCNN runs on chips chosen evenly from the sorted names, each padded by half its side (the border replicated): chips
are too tight for a detector. Printed: the median position of each landmark in the unit square of the chip, the same
made symmetric about the vertical axis, which is what the template holds, and how far single chips are from it.
"""

from pathlib import Path

import cv2
import numpy as np

from agedge.cli import run_command
from agedge.errors import AgedgeError
from agedge.faces.detection import choose_main, create_detector, detect_padded
from agedge.landmarks import MIRRORED


def measure(root: Path = Path("data/UTKFace"), count: int = 2000) -> None:
    """Print the landmarks of `count` chips."""
    paths = sorted(root.glob("*.jpg"))
    if not paths:
        raise AgedgeError(f"{root}: it contains no *.jpg")
    paths = [paths[int(place)] for place in np.linspace(0, len(paths) - 1, min(count, len(paths)))]
    detector = create_detector("mtcnn")
    found = []
    for path in paths:
        chip = cv2.imread(str(path))
        faces = detect_padded(detector, chip)
        if len(faces):
            found.append(faces.landmarks[choose_main(faces.boxes, chip.shape)] / (chip.shape[1], chip.shape[0]))
    median = np.median(found, axis=0)
    mirrored = median[list(MIRRORED)] * (-1, 1) + (1, 0)
    symmetric = (median + mirrored) / 2
    away = np.linalg.norm(np.array(found) - symmetric, axis=2).mean(axis=1)
    print(f"{len(found)} faces on {len(paths)} chips")
    print("median     ", np.round(median, 4).tolist())
    print("symmetric  ", np.round(symmetric, 4).tolist())
    print(f"a chip is {np.median(away):.4f} of its side from it (median of its landmarks' mean); 90% within", end=" ")
    print(f"{np.percentile(away, 90):.4f}")


if __name__ == "__main__":
    run_command(measure)

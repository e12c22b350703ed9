"""Measure predictions for faces turned by 0, 90, 180 and 270 degrees: a table of docs/detection.md.

python -m benchmarks.orientation --root data/UTKFace
"""

from pathlib import Path

import cv2
import numpy as np
import typer

from agedge.cli import run_command
from agedge.faces.orientation import ORIENTATIONS
from agedge.predict import OK, Predictor
from rec_tools.readers.utkface import read

PAD = 100  # pixels about a chip, so that a detector gets a face in an image
AGES = (20, 70)


def measure(predictor: Predictor, faces: list, turns: int) -> str:
    """Return the faces with a prediction, their age MAE in years, and the share of right genders, as a line."""
    errors, right = [], []
    for image, label in faces:
        people = [each for each in predictor.predict(np.ascontiguousarray(np.rot90(image, turns))) if each.status == OK]
        if people:
            errors.append(abs(people[0].age - label.age_min))
            right.append(people[0].gender == ("male" if label.gender else "female"))
    return f"{len(errors):4} of {len(faces)} predicted, MAE {np.mean(errors):5.2f}, gender {np.mean(right):4.0%}"


def main(
    root: Path = typer.Option(..., help="the folder of UTKFace's aligned chips"),
    faces: int = typer.Option(100, min=1),
    model: str = "models/mobilenet025",
) -> None:
    """Predict the same faces upright and turned, with both detectors."""
    rows = [row for row in read(root) if hasattr(row, "label") and AGES[0] <= row.label.age_min <= AGES[1]]
    chosen = [rows[place] for place in np.random.RandomState(7).permutation(len(rows))[:faces]]
    images = [cv2.imread(str(row.image)) for row in chosen]
    padded = [cv2.copyMakeBorder(image, *[PAD] * 4, cv2.BORDER_REPLICATE) for image in images]
    for detector in ("mtcnn", "essh"):
        for orientation in ORIENTATIONS:
            predictor = Predictor(model, detector, orientation=orientation)
            for turns in range(4):
                result = measure(predictor, [(image, row.label) for image, row in zip(padded, chosen)], turns)
                print(f"{detector:6}{orientation:8}{90 * turns:4} degrees  {result}", flush=True)


if __name__ == "__main__":
    run_command(main)

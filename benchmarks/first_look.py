"""Compare detection at one place with a search of the image: python -m benchmarks.first_look FOLDER [--faces 400]

FOLDER holds images of one face each, such as UTKFace's chips or FairFace's crops. Distances are shares of the
distance of the eyes, between the landmarks of the main faces.
"""

import time
from pathlib import Path

import cv2
import numpy as np
import typer

from agedge.cli import run_command
from agedge.faces.detection import choose_main, create_detector
from agedge.sources import list_images, read_image
from rec_tools.packing.landmarks import detect_at_place

BATCH = 64


def main(folder: Path = typer.Argument(...), faces: int = typer.Option(400)) -> None:
    """Print time, share found, and distances to the landmarks of a plain search."""
    cv2.setNumThreads(1)
    paths = list_images(folder)
    images = [read_image(path) for path in paths[:: max(1, len(paths) // faces)][:faces]]
    detector = create_detector("mtcnn")
    methods = {
        "search, image by image": lambda some: [detector.detect(image) for image in some],
        "search with min_face 60": lambda some: detector.detect_batch(some, 60),
        "search with min_face 80": lambda some: detector.detect_batch(some, 80),
        "detection at the centre": lambda some: detect_at_place(detector, some, [None] * len(some))[0],
    }
    reference = None
    print(f"{len(images)} images of {folder.name}")
    print(f"{'':26}     ms   found   median distance    95%")
    for name, detect in methods.items():
        detect(images[:BATCH])
        started = time.perf_counter()
        found = [one for start in range(0, len(images), BATCH) for one in detect(images[start : start + BATCH])]
        taken = (time.perf_counter() - started) / len(images) * 1e3
        points = [f.landmarks[choose_main(f.boxes, i.shape)] if len(f) else None for f, i in zip(found, images)]
        reference = reference or points
        away = [distance(one, other) for one, other in zip(points, reference) if one is not None and other is not None]
        quantiles = np.quantile(away, (0.5, 0.95))
        share = sum(one is not None for one in points) / len(points)
        print(f"{name:26}{taken:7.2f}{share:8.1%}{quantiles[0]:18.3f}{quantiles[1]:7.3f}")


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance of two sets of landmarks (5, 2), in distances of the eyes."""
    return np.linalg.norm(one - other, axis=1).mean() / np.linalg.norm(other[0] - other[1])


if __name__ == "__main__":
    run_command(main)

"""One row of a data set, made ready: read, aligned or resized, encoded. What the worker processes of `pack` do."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import cv2
import numpy as np

from agedge.faces.align import align, resize_square
from agedge.faces.crop import Crop
from agedge.sources import decode_image
from rec_tools.rows import Dropped, Row


@dataclass(frozen=True)
class Preparation:
    """How faces become records.

    `align`: "none" takes the whole image, else the detector that finds landmarks, and `crop` says where they go.
    `set_crop`: where they lie in the set's own images, if it aligned them.
    """

    size: int = 112
    align: str = "none"
    crop: Optional[Crop] = None
    set_crop: Optional[Crop] = None
    quality: int = 95


@dataclass(frozen=True)
class Prepared:
    """A face ready to be written. `digest` tells copies of the image file; `way`: how it was aligned."""

    row: Row
    jpeg: bytes
    digest: str
    way: str


_detector = None


def start_worker() -> None:
    """One thread a worker: the workers are the parallelism."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)


def prepare_all(rows, preparation: Preparation) -> list:
    """A chunk of rows: each `Prepared`, or `Dropped` with the reason."""
    return [prepare(row, preparation) for row in rows]


def prepare(row: Row, preparation: Preparation):
    """Whatever is wrong with an image is the reason why its row is dropped."""
    try:
        data = Path(row.image).read_bytes()
        face, way = cut(decode_image(data), preparation)
    except FileNotFoundError:
        return Dropped(row.id, "image missing")
    except (ValueError, OSError) as error:
        return Dropped(row.id, "image not readable", getattr(error, "strerror", None) or str(error))
    if face is None:
        return Dropped(row.id, "no face found")
    jpeg = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, preparation.quality])[1].tobytes()
    return Prepared(row, jpeg, hashlib.blake2b(data, digest_size=16).hexdigest(), way)


def cut(image: np.ndarray, preparation: Preparation) -> tuple:
    """The face (size, size, 3) and the way it was aligned; (None, "") where none was found."""
    if preparation.align == "none":
        return resize_square(image, preparation.size), "whole image"
    landmarks, way = find_landmarks(image, preparation.align), "landmarks found"
    if landmarks is None and preparation.set_crop is not None:
        landmarks = preparation.set_crop.points * (np.array(image.shape[1::-1]) / preparation.set_crop.size)
        way = "landmarks of the set's own alignment"
    if landmarks is None:
        return None, ""
    return align(image, landmarks, preparation.crop), way


def find_landmarks(image: np.ndarray, detector: str) -> Optional[np.ndarray]:
    """(5, 2) of the main face, by a detector that each process creates once."""
    global _detector
    from agedge.faces.detection import create_detector, main_face

    if _detector is None:
        _detector = create_detector(detector)
    return main_face(_detector, image)

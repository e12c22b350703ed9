"""Compose scenes from annotated faces and write them as images with a label.txt, to evaluate a detector."""

from pathlib import Path
from typing import List, Sequence

import cv2
import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.annotations import Photo, read_annotations, write_annotations
from agedge.results.kinds import MARKED_IMAGE, mark_image
from agedge.results.overwrite import Result, check_results
from agedge.safe_write import write_bytes
from agedge.training.scenes.loader import SceneMaker, find_backgrounds

QUALITY = 95


def compose(faces: Sequence[Path], backgrounds: Path, out: Path, count: int, size: int, seed: int = 0) -> List[Photo]:
    """Write `count` scenes of `size` pixels as OUT/images/NUMBER.jpg, and OUT/label.txt; return its annotations.

    `faces`: annotation files. Only those of the `backgrounds` are used that training leaves out.
    """
    scenes = SceneMaker([read_annotations(file) for file in faces], find_backgrounds(backgrounds, True), [], size, 1.0)
    if (out / "label.txt").exists():
        raise AgedgeError(f"{out / 'label.txt'}: exists")
    files = [out / "images" / f"{number:05d}.jpg" for number in range(count)]
    check_results([Result("--out", file, MARKED_IMAGE) for file in files if file.exists()])
    photos = []
    for number, file in enumerate(files):
        image, boxes, landmarks, ignored, covers = scenes.make_scene(np.random.default_rng((seed, number)))
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        write_bytes(file, mark_image(jpeg))
        photos.append(Photo(file, boxes, landmarks, ignored, np.array(covers, np.str_)))
    write_annotations(out / "label.txt", photos)
    return photos

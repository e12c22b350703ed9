"""Compare face detectors, ours and others, on one thread: python -m benchmarks.faces --photo FILE --annotations FILE

Prints the table of docs/detection.md; run it with nothing else running. With --det it measures one of ours and names
the faces that it missed and its false detections: python -m benchmarks.faces --annotations FILE --det 1 [--save DIR]
"""

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Optional

import cv2
import numpy as np
import typer

from agedge.cli import run_command
from agedge.draw import save_image
from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.detection import WRONG, match_faces, measure_detection
from agedge.faces.annotations import read_annotations
from agedge.faces.boxes import overlaps
from agedge.faces.detection import create_detector
from agedge.faces.detector import Faces
from agedge.sources import read_image
from benchmarks.face_detectors import Worker
from benchmarks.pages import replace_table

SIZES = ((1280, 886), (640, 443))  # width and height of the photograph timed
SAME = 0.9  # overlap from which two boxes are the same
FULL = 2000  # megabytes: a process that has grown by as many is shown no more photographs
MEMORY_SIZES = (160, 1280)  # pixels, the shorter and longer sides of the photographs that memory is measured with
HEADER = """| detector | ms, 1280x886 | ms, 640x443 | recall | precision | landmarks | same boxes | more memory, MB |
|---|---|---|---|---|---|---|---|"""
GREEN, BLUE, RED = (60, 170, 40), (220, 120, 30), (40, 40, 220)  # BGR


@dataclass
class Contender:
    """A row of the table. `plain`: the kind and option of the cascade that it is compared with."""

    label: str
    kind: str
    option: str = ""
    plain: str = "plain20"
    peer: bool = False
    worker: Optional[Worker] = None
    ms: dict = field(default_factory=dict)
    found: list = field(default_factory=list)
    grown: Optional[float] = None

    @property
    def name(self) -> str:
        return f"{self.kind}{self.option}"


def main(
    annotations: Path = typer.Option(..., help="label.txt or annotations.json of photographs with annotated faces."),
    photo: Optional[Path] = typer.Option(None, help="The photograph to be timed."),
    det: str = typer.Option("", help="Only measure this one: 0 MTCNN, 1 ESSH."),
    min_face: float = typer.Option(20, help="With --det 0: the smallest face, in pixels."),
    folder: str = typer.Option("", help="ESSH's checkpoint, where it is not ssh_model."),
    save: Optional[Path] = typer.Option(None, help="With --det: folder for the annotated images."),
    rounds: int = typer.Option(7, min=1, help="Rounds; in each every detector is timed once. The median counts."),
    sizes: int = typer.Option(200, min=0, help="Photographs, of as many sizes, between two readings of the memory."),
    yunet: str = typer.Option("", help="The file of OpenCV's YuNet."),
    peers_python: str = typer.Option(sys.executable, help="The Python that has facenet-pytorch and mtcnn installed."),
    write: Optional[Path] = typer.Option(None, help="The Markdown file whose table is to be replaced."),
):
    """Print the table of detectors, or what one of them found and missed."""
    photos = read_annotations(annotations)
    if det:
        options = {"min_face": min_face} if det in ("0", "mtcnn") else {"folder": folder} if folder else {}
        show_detector(create_detector(det, **options), photos, save)
        return
    if photo is None:
        raise UsageError("photo: name the photograph to be timed, with --photo FILE")
    contenders = [
        Contender("MTCNN, min face 20", "mtcnn", "20"),
        Contender("MTCNN, min face 40", "mtcnn", "40", "plain40"),
        Contender("ESSH", "essh", folder),
        Contender("plain MXNet cascade, min face 20", "plain", "20"),
        Contender("plain MXNet cascade, min face 40", "plain", "40", "plain40"),
        Contender("facenet-pytorch, min face 20", "facenet-pytorch", "20", peer=True),
        Contender("`mtcnn` package, min face 20", "mtcnn-package", "20", peer=True),
    ]
    contenders += [Contender("YuNet", "yunet", yunet)] if yunet else []
    with tempfile.TemporaryDirectory() as scratch:
        table = compare(contenders, photos, read_image(photo), rounds, sizes, peers_python, Path(scratch, "image.npy"))
    if write:
        replace_table(write, table, "benchmarks.faces")


def compare(contenders: list, photos: list, timed: np.ndarray, rounds, sizes, peers_python: str, file: Path) -> str:
    """Measure all that can be made here; the table, which is printed too."""
    running = []
    for one in contenders:
        try:
            one.worker = Worker(one.kind, one.option, peers_python if one.peer else sys.executable)
            running.append(one)
        except AgedgeError as error:
            print(f"left out: {one.label}: {error}")
    measure_memory(running, photos, sizes, file)
    time_in_turn(running, timed, rounds, file)
    for photo in photos:
        np.save(file, read_image(photo.file))
        for one in running:
            one.found.append(one.worker.detect(file)[0])
    for one in running:
        one.worker.close()
    by_name = {one.name: one for one in running}
    table = "\n".join([HEADER, *(make_row(one, photos, by_name) for one in running)])
    print(table)
    return table


def measure_memory(contenders: list, photos: list, sizes: int, file: Path) -> None:
    """How many megabytes each process grows from after the first photograph to after as many as `sizes`."""
    draw, low, small = np.random.default_rng(0), [], list(contenders)
    for number in range(sizes):
        width, height = draw.integers(*MEMORY_SIZES, 2).tolist()
        np.save(file, cv2.resize(read_image(photos[number % len(photos)].file), (width, height)))
        for one in small:
            one.worker.detect(file)
        low = low or [one.worker.memory() for one in contenders]
        if number % 5 == 4:  # what keeps an executor a size would fill the machine
            small = [one for one in small if one.worker.memory() - low[contenders.index(one)] < FULL]
    for one, before in zip(contenders, low):
        one.grown = one.worker.memory() - before


def time_in_turn(contenders: list, image: np.ndarray, rounds: int, file: Path) -> None:
    """Milliseconds of every detector at every size: the median of rounds in which each is timed once, so that what else
    the machine does meets all of them. Two runs before each size are not timed."""
    for size in SIZES:
        np.save(file, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        for one in contenders:
            one.worker.detect(file, 2)
            one.ms[size] = []
        for _ in range(rounds):
            for one in contenders:
                one.ms[size] += one.worker.detect(file)[1]


def make_row(one: Contender, photos: list, by_name: dict) -> str:
    quality = measure_detection(zip(one.found, photos))
    plain = by_name.get(one.plain)
    times = []
    for size in SIZES:
        ratio = f" ({median(one.ms[size]) / median(plain.ms[size]):.2f})" if plain else ""
        times.append(f"{median(one.ms[size]):.1f}{ratio}")
    same = share_of_same(plain.found, one.found) if plain and one.kind != "essh" else None
    cells = [quality[name] for name in ("recall", "precision", "landmarks_error")]
    written = [f"{cell:.3f}" if cell is not None else "" for cell in cells]
    written.append(f"{same:.1%}" if same is not None else "")
    written.append(f"{one.grown:.0f}" if one.grown is not None else "")
    return f"| {one.label} | {' | '.join([*times, *written])} |"


def share_of_same(reference: list, found: list) -> Optional[float]:
    """The share of the boxes of `reference`, a `Faces` an image, that `found` has too."""
    same = [overlaps(a.boxes, b.boxes).max(axis=1, initial=0) >= SAME for a, b in zip(reference, found)]
    same = np.concatenate(same) if same else np.empty(0)
    return float(same.mean()) if len(same) else None


def show_detector(detector, photos: list, save: Optional[Path]) -> None:
    """Print what a detector is worth, and by file what it missed and what is wrong; draw it into `save`."""
    results, taken = [], set()
    for photo in photos:
        image = read_image(photo.file)
        faces = detector.detect(image)
        results.append((faces, photo))
        matches = match_faces(faces, photo)
        missed = np.flatnonzero(~photo.ignored & ~np.isin(np.arange(len(photo)), matches))
        for index in missed:
            tag = photo.occlusion[index]
            print(f"{photo.file}: missed {format_box(photo.boxes[index])}{f' ({tag})' if tag else ''}")
        for index in np.flatnonzero(matches == WRONG):
            print(f"{photo.file}: wrong {format_box(faces.boxes[index])} of score {faces.scores[index]:.2f}")
        if save:
            save_image(draw_matches(image, faces, photo.boxes, matches), save, str(photo.file), taken)
    print(json.dumps(measure_detection(results), indent=1))


def format_box(box: np.ndarray) -> str:
    return " ".join(f"{side:.0f}" for side in box)


def draw_matches(image: np.ndarray, faces: Faces, annotated: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """A copy of a BGR uint8 image: annotated boxes green, found ones and their landmarks blue, wrong ones red."""
    picture, thick = image.copy(), max(1, round(max(image.shape[:2]) / 400))
    for box in annotated:
        draw_box(picture, box, GREEN, thick)
    for box, points, match in zip(faces.boxes, faces.landmarks, matches):
        colour = RED if match == WRONG else BLUE
        draw_box(picture, box, colour, thick)
        for point in np.round(points).astype(int).tolist():
            cv2.circle(picture, point, thick, colour, -1, cv2.LINE_AA)
    return picture


def draw_box(picture: np.ndarray, box: np.ndarray, colour: tuple, thick: int) -> None:
    x1, y1, x2, y2 = np.round(box).astype(int).tolist()
    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thick)


if __name__ == "__main__":
    run_command(main)

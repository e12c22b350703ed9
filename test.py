"""Door: faces in pictures, folders, videos or a camera -> age and gender of everyone in them."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from typing import List, Optional

import cv2
import typer

from agedge.cli import run_door
from agedge.draw import draw_people, save_picture
from agedge.errors import AgedgeError, UsageError
from agedge.faces.detection import create_detector
from agedge.predict import COLUMNS, Predictor, to_json
from agedge.sources import read_images


def test(
    sources: Optional[List[str]] = typer.Argument(None, metavar="[IMAGE|FOLDER|VIDEO|CAMERA]...", show_default=False),
    det: str = typer.Option("0", help="Detector: 0 MTCNN, 1 ESSH."),
    min_face: Optional[float] = typer.Option(None, metavar="PIXELS", help="Smallest face to find.", show_default=False),
    max_faces: Optional[int] = typer.Option(None, metavar="N", help="The N largest only.", show_default=False),
    model: str = typer.Option("models/mobilenet025", metavar="DIR|PREFIX,EPOCH", help="The model to ask."),
    runtime: str = typer.Option("mxnet", metavar="mxnet|onnx|ncnn", help="What runs the model."),
    decode: str = typer.Option("", metavar="age|gender|pairs", help="What the output of PREFIX,EPOCH is, if unclear."),
    json_file: Optional[Path] = typer.Option(None, "--json", metavar="FILE", help="Write one JSON object a picture."),
    csv_file: Optional[Path] = typer.Option(None, "--csv", metavar="FILE", help="Write a row a face."),
    save: Optional[Path] = typer.Option(None, metavar="DIR", help="Write annotated pictures here."),
    show: bool = typer.Option(False, "--show", help="Show annotated pictures in a window; q ends."),
) -> None:
    """Find the faces in pictures and say how old they are, and which gender.

    Without a picture, a photograph that comes with matplotlib is used. CAMERA is a number, 0 for the first one.
    """
    cv2.setLogLevel(0)  # OpenCV's own lines about files that it cannot read: ours name the file and the reason
    options = {"min_face": min_face, "max_faces": max_faces}
    detector = create_detector(det, **{name: value for name, value in options.items() if value is not None})
    predictor = Predictor(model, detector, runtime, form=decode)
    pictures = unread = faces = 0
    with ExitStack() as files:
        json_lines = open_output(files, json_file)
        rows = csv_file and csv.writer(open_output(files, csv_file))
        if rows:
            rows.writerow(COLUMNS)
        saved = set()
        for picture in read_images(sources or [find_sample()]):
            people = [] if picture.error else predictor.predict(picture.image)
            status = picture.error or ("ok" if people else "no face")
            if json_lines:
                shape = (None, None) if picture.error else picture.image.shape[:2]
                json_lines.write(json.dumps(to_json(picture.file, shape, status, people), ensure_ascii=False) + "\n")
            if picture.error:
                unread += 1
                typer.echo(f"skipped: {picture.file}: {picture.error}", err=True)
                continue
            pictures += 1
            faces += len(people)
            typer.echo(f"{picture.file}: {count(len(people), 'face')}")
            for number, person in enumerate(people, 1):
                x1, y1, x2, y2 = person.box
                where = f"at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}, score {person.score:.3f}"
                p_male = f", P(male) {person.p_male:.3f}" if person.gender else ""
                typer.echo(f"  {number}: {person.describe()}{p_male}, {where}")
                if rows:
                    rows.writerow(person.to_row(picture.file, number))
            if save or show:
                annotated = draw_people(picture.image, people)
                if save:
                    save_picture(annotated, save, picture.file, saved)
                if show and not show_picture(annotated):
                    break
    typer.echo(f"{count(pictures, 'picture')}, {count(faces, 'face')}; {unread} could not be read", err=True)
    if not pictures:
        raise AgedgeError("none of the pictures could be read")


def count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number > 1)}"


def open_output(files: ExitStack, path: Optional[Path]):
    """A text file to write, its folder made, closed with `files`; None without a path."""
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    return files.enter_context(open(path, "w", encoding="utf-8", errors="backslashreplace", newline=""))


def find_sample() -> str:
    """A real photograph that every installation has."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")


def show_picture(picture) -> bool:
    """Show a picture; whether to go on. Raises `UsageError` where this OpenCV has no windows."""
    try:
        cv2.imshow("agedge", picture)
    except cv2.error:
        raise UsageError("--show: this OpenCV has no windows (opencv-python-headless); use --save") from None
    return cv2.waitKey(1) not in (ord("q"), 27)


if __name__ == "__main__":
    run_door(test)

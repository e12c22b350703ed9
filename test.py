"""Command: faces in pictures, folders, videos or a camera -> age and gender of everyone in them."""

import csv
import io
import json
import logging
from collections import Counter
from contextlib import ExitStack
from errno import EILSEQ, EINVAL, ENAMETOOLONG
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Tuple

import cv2
import numpy as np
import typer

from agedge.cli import TRUST, describe, run_command, say
from agedge.draw import draw_people, save_picture
from agedge.errors import AgedgeError, UsageError
from agedge.faces.detection import create_detector
from agedge.predict import COLUMNS, UNRELIABLE, Person, Predictor, to_json
from agedge.results.kinds import FACES_TABLE, FOLDER, PREDICTIONS
from agedge.results.overwrite import Result, check_results, is_within, model_inputs
from agedge.results.stream import ResultStream
from agedge.sources import IMAGE_SUFFIXES, STANDARD_INPUT, VIDEO_SUFFIXES, SourceImage, read_images

OF_THE_NAME = (ENAMETOOLONG, EINVAL, EILSEQ)  # errors of the file system that are one name's, not the disk's
log = logging.getLogger("test")


def test(
    sources: Optional[List[str]] = typer.Argument(None, metavar="[IMAGE|FOLDER|VIDEO|CAMERA|-]...", show_default=False),
    det: str = typer.Option("0", help="Detector: 0 MTCNN, 1 ESSH."),
    min_face: Optional[float] = typer.Option(None, metavar="PIXELS", help="Smallest face to find.", show_default=False),
    max_faces: Optional[int] = typer.Option(None, metavar="N", help="The N largest only.", show_default=False),
    model: str = typer.Option("models/mobilenet025", metavar="DIR|PREFIX,EPOCH", help="The model to ask."),
    runtime: str = typer.Option("mxnet", metavar="mxnet|onnx|ncnn", help="What runs the model."),
    decode: str = typer.Option("", metavar="age|gender|pairs", help="What the output of PREFIX,EPOCH is, if unclear."),
    json_file: Optional[Path] = typer.Option(
        None, "--json", metavar="FILE", help="Write one JSON object a picture; - is stdout."
    ),
    csv_file: Optional[Path] = typer.Option(None, "--csv", metavar="FILE", help="Write a row a face; - is stdout."),
    save: Optional[Path] = typer.Option(None, metavar="DIR", help="Write annotated pictures here."),
    show: bool = typer.Option(False, "--show", help="Show annotated pictures in a window; q ends."),
    min_score: Optional[float] = typer.Option(
        None, min=0, max=1, metavar="SCORE", help="Leave out faces of a lower score.", show_default=False
    ),
    max_side: Optional[int] = typer.Option(
        None, min=1, metavar="PIXELS", help="Shrink larger pictures to this side to find faces.", show_default=False
    ),
    orientation: str = typer.Option("auto", metavar="auto|upright", help="auto: look at turned pictures too."),
    batch: int = typer.Option(1, min=1, max=1024, metavar="N", help="Pictures that are looked at together."),
    excel: bool = typer.Option(False, "--excel", help="Begin --csv with a byte order mark, which Excel wants."),
    trust: bool = TRUST,
) -> None:
    """Find the faces in pictures and say how old they are, and which gender.

    Without a picture, a photograph that comes with matplotlib is used. CAMERA is a number, 0 for the first one; - is
    a picture on stdin.
    """
    cv2.setLogLevel(0)  # OpenCV's own lines about files that it cannot read: ours name the file and the reason
    sources = sources or [find_sample()]
    check_outputs(sources, model, json_file, csv_file, save)
    options = given(min_face=min_face, max_faces=max_faces, min_score=min_score, max_side=max_side)
    predictor = Predictor(model, create_detector(det, **options), runtime, decode, orientation, trust)
    try_out(predictor)
    pictures = unread = failed = faces = 0
    left_out = Counter()
    with ExitStack() as files:
        json_lines = json_file and files.enter_context(ResultStream(json_file))
        table = csv_file and files.enter_context(ResultStream(csv_file, mark=excel))
        head, saved = [COLUMNS], set()
        for picture, people, fault in answer_all(predictor, read_images(sources, left_out), batch):
            if json_lines:
                shape = (None, None) if picture.image is None else picture.image.shape[:2]
                status = fault or ("ok" if people else "no face")
                value = to_json(picture.file, shape, status, people)
                json_lines.write(json.dumps(value, ensure_ascii=False) + "\n")
            if table:
                rows = [person.to_row(picture.file, number) for number, person in enumerate(people, 1)]
                table.write(format_rows([*head, *rows]))
                head = []
            if fault:
                unread += bool(picture.error)
                failed += not picture.error
                say(f"skipped: {picture.file}: {fault}", err=True)
                continue
            pictures += 1
            faces += len(people)
            say(f"{picture.file}: {count(len(people), 'face')}")
            say(*(describe_person(number, person) for number, person in enumerate(people, 1)))
            if save or show:
                annotated = annotate(picture, people, save, saved)
                failed += annotated is None
                if show and annotated is not None and not show_picture(annotated):
                    break
    if left_out:
        listed = ", ".join(f"{suffix or 'no suffix'} {number}" for suffix, number in left_out.most_common())
        total = sum(left_out.values())
        verb = "is not an image by its name" if total == 1 else "are not images by their names"
        say(f"{count(total, 'file')} {verb}: {listed}", err=True)
    unfinished = f", {failed} could not be finished" if failed else ""
    say(f"{count(pictures, 'picture')}, {count(faces, 'face')}; {unread} could not be read{unfinished}", err=True)
    if not pictures:
        raise AgedgeError(f"none of the pictures could be {'answered' if failed else 'read'}")


def check_outputs(
    sources: List[str], model: str, json_file: Optional[Path], csv_file: Optional[Path], save: Optional[Path]
) -> None:
    """Raise `UsageError` where a result would be written over a source, or among pictures that are read."""
    files = [Path(source) for source in sources if source != STANDARD_INPUT]
    results = [Result("--json", json_file, PREDICTIONS), Result("--csv", csv_file, FACES_TABLE)]
    check_results([*results, Result("--save", save, FOLDER)], [*files, *model_inputs(model)])
    folders = [path for path in files if path.is_dir()]
    for option, path, _ in results:
        if path and path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            for folder in folders:
                if is_within(path, folder):
                    raise UsageError(f"{option} {path}: would be read as a picture of {folder}; choose another name")
    if save is None:
        return
    for path in files:
        if path.is_file() and save.resolve() in (path.resolve().parent, path.parent.resolve()):
            raise UsageError(f"--save {save}: {path} is read from there; choose another folder")
    for folder in folders:
        holds_pictures = save.is_dir() and any(path.suffix.lower() in IMAGE_SUFFIXES for path in save.rglob("*"))
        if save.resolve() == folder.resolve() or holds_pictures and is_within(save, folder):
            raise UsageError(f"--save {save}: its pictures are read too, with {folder}; choose another folder")


def given(**options) -> dict:
    """Return the options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def try_out(predictor: Predictor) -> None:
    """Ask the networks about a grey picture, so that a damaged one is one error, and not one for each picture."""
    size = predictor.model.card.input["size"]
    predictor.detector.detect(np.full((64, 64, 3), 128, np.uint8))
    predictor.model.predict(np.full((1, size, size, 3), 128, np.uint8))


def answer_all(
    predictor: Predictor, pictures: Iterable[SourceImage], batch: int
) -> Iterator[Tuple[SourceImage, List[Person], str]]:
    """Yield each picture with its people, or with the reason why there is no answer."""
    pictures = iter(pictures)
    while together := list(islice(pictures, batch)):
        answers = answer_together(predictor, [picture for picture in together if not picture.error])
        for picture in together:
            people, fault = ([], picture.error) if picture.error else next(answers)
            yield picture, people, fault


def answer_together(predictor: Predictor, pictures: List[SourceImage]) -> Iterator[Tuple[List[Person], str]]:
    """Yield (people, fault) of pictures by one call; where that fails, of each by a call of its own."""
    if len(pictures) > 1:
        try:
            people = predictor.predict_batch([picture.image for picture in pictures])
        except Exception as error:
            log.debug("%d pictures together: %s", len(pictures), describe(error), exc_info=True)
        else:
            yield from ((found, "") for found in people)
            return
    for picture in pictures:
        try:
            yield predictor.predict(picture.image), ""
        except Exception as error:  # whatever is wrong with one picture, the next one follows
            log.debug("%s", picture.file, exc_info=True)
            yield [], describe(error) or type(error).__name__


def annotate(picture: SourceImage, people: List[Person], save: Optional[Path], saved: set):
    """Return the annotated picture, written into `save`; None where this picture could not be drawn or written."""
    try:
        annotated = draw_people(picture.image, people)
        if save:
            save_picture(annotated, save, picture.file, saved)
        return annotated
    except OSError as error:
        if error.errno not in OF_THE_NAME:
            raise
        fault = error
    except Exception as error:
        fault = error
    log.debug("%s", picture.file, exc_info=fault)
    say(f"not annotated: {picture.file}: {describe(fault)}", err=True)
    return None


def format_rows(rows: Iterable) -> str:
    """Return rows as lines of CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def describe_person(number: int, person: Person) -> str:
    """Return the line that is printed of a person."""
    x1, y1, x2, y2 = person.box
    where = f"at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}, score {person.score:.3f}"
    if person.status == UNRELIABLE:
        return f"  {number}: unreliable: {person.reason}, {where}"
    p_male = f", P(male) {person.p_male:.3f}" if person.gender else ""
    return f"  {number}: {person.describe()}{p_male}, {where}"


def count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number > 1)}"


def find_sample() -> str:
    """Return a real photograph that every installation has."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")


def show_picture(picture) -> bool:
    """Show a picture, and return whether to go on. Raises `UsageError` where this OpenCV has no windows."""
    try:
        cv2.imshow("agedge", picture)
    except cv2.error:
        raise UsageError("--show: this OpenCV has no windows (opencv-python-headless); use --save") from None
    return cv2.waitKey(1) not in (ord("q"), 27)


if __name__ == "__main__":
    run_command(test)

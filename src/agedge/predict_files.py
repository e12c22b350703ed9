"""Predict age and gender for many images, and write the results as JSON lines, CSV and annotated images.

One image that fails does not end the job: its result has the reason.
"""

import csv
import io
import json
import logging
from collections import Counter
from contextlib import ExitStack
from errno import EILSEQ, EINVAL, ENAMETOOLONG
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Type

import numpy as np

from agedge.cli import describe
from agedge.draw import draw_people, save_image
from agedge.errors import UsageError
from agedge.predict import COLUMNS, UNRELIABLE, Person, Predictor, to_json
from agedge.results.kinds import FACES_TABLE, FOLDER, PREDICTIONS
from agedge.results.overwrite import Result, check_results, is_within, model_inputs
from agedge.results.stream import ResultStream
from agedge.sources import IMAGE_SUFFIXES, STANDARD_INPUT, VIDEO_SUFFIXES, SourceImage

NAME_ERRORS = (ENAMETOOLONG, EINVAL, EILSEQ)  # the file system refuses this name; other files can be written
log = logging.getLogger(__name__)


class ImageResult(NamedTuple):
    """An image with the people in it, or with the reason why it has no result (`fault`, else "")."""

    source: SourceImage
    people: List[Person]
    fault: str


class OutputPaths(NamedTuple):
    """The paths to write to: a file of JSON lines, a CSV file, a folder of annotated images; None: do not write."""

    json_file: Optional[Path] = None
    csv_file: Optional[Path] = None
    save: Optional[Path] = None


def check_outputs(sources: Sequence[str], model: str, outputs: OutputPaths) -> None:
    """Raise `UsageError` where a result would overwrite a source, or lie among the images that are read."""
    files = [Path(source) for source in sources if source != STANDARD_INPUT]
    results = [Result("--json", outputs.json_file, PREDICTIONS), Result("--csv", outputs.csv_file, FACES_TABLE)]
    save = outputs.save
    check_results([*results, Result("--save", save, FOLDER)], [*files, *model_inputs(model)])
    folders = [path for path in files if path.is_dir()]
    for option, path, _ in results:
        if path and path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            for folder in folders:
                if is_within(path, folder):
                    raise UsageError(f"{option} {path}: would be read as an image of {folder}; choose another name")
    if save is None:
        return
    for path in files:
        if path.is_file() and save.resolve() in (path.resolve().parent, path.parent.resolve()):
            raise UsageError(f"--save {save}: {path} is read from there; choose another folder")
    for folder in folders:
        holds_images = save.is_dir() and any(path.suffix.lower() in IMAGE_SUFFIXES for path in save.rglob("*"))
        if save.resolve() == folder.resolve() or holds_images and is_within(save, folder):
            raise UsageError(f"--save {save}: its images are read too, with {folder}; choose another folder")


def check_networks(predictor: Predictor) -> None:
    """Run the networks on a grey image, so that a damaged one is one error and not one for each image."""
    size = predictor.model.card.input["size"]
    predictor.detector.detect(np.full((64, 64, 3), 128, np.uint8))
    predictor.model.predict(np.full((1, size, size, 3), 128, np.uint8))


def predict_files(predictor: Predictor, images: Iterable[SourceImage], batch: int) -> Iterator[ImageResult]:
    """Yield the result of each image, in order; `batch` images are predicted together."""
    images = iter(images)
    while together := list(islice(images, batch)):
        results = _predict_batch(predictor, [image for image in together if not image.error])
        for image in together:
            yield ImageResult(image, [], image.error) if image.error else next(results)


def _predict_batch(predictor: Predictor, images: List[SourceImage]) -> Iterator[ImageResult]:
    """Yield the results of one call for all images; where that fails, of a call for each."""
    if len(images) > 1:
        try:
            found = predictor.predict_batch([image.image for image in images if image.image is not None])
        except Exception as error:
            log.debug("%d images together: %s", len(images), describe(error), exc_info=True)
        else:
            yield from (ImageResult(image, people, "") for image, people in zip(images, found))
            return
    for image in images:
        try:
            assert image.image is not None, "unreadable images are not predicted"
            yield ImageResult(image, predictor.predict(image.image), "")
        except Exception as error:  # a fault of one image does not stop the next one
            log.debug("%s", image.file, exc_info=True)
            yield ImageResult(image, [], describe(error) or type(error).__name__)


class ResultWriter:
    """Write results as they come: JSON lines, CSV rows, annotated images. A context manager.

    `excel`: begin the CSV file with a byte order mark.
    """

    def __init__(self, outputs: OutputPaths, excel: bool = False):
        self._save = outputs.save
        self._saved: Set[str] = set()  # names of annotated images
        self._files = ExitStack()
        self._json = outputs.json_file and self._files.enter_context(ResultStream(outputs.json_file))
        self._csv = outputs.csv_file and self._files.enter_context(ResultStream(outputs.csv_file, mark=excel))
        self._has_header = False

    def write(self, result: ImageResult) -> None:
        """Write an object into the JSON file, and a row a face into the CSV file."""
        source, people, fault = result
        if self._json:
            height, width = (None, None) if source.image is None else source.image.shape[:2]
            value = to_json(source.file, (height, width), fault or ("ok" if people else "no face"), people)
            self._json.write(json.dumps(value, ensure_ascii=False) + "\n")
        if self._csv:
            header = [] if self._has_header else [COLUMNS]
            rows = [person.to_row(source.file, number) for number, person in enumerate(people, 1)]
            self._csv.write(_format_rows([*header, *rows]))
            self._has_header = True

    def annotate(self, result: ImageResult) -> Tuple[Optional[np.ndarray], str]:
        """Draw the people into the image and save it, if there is a folder for it.

        Returns the annotated BGR image (h, w, 3), or None and the reason why it was not drawn or not written. Raises
        `OSError` where no other image could be written either, as on a full disk.
        """
        try:
            image = result.source.image
            assert image is not None, "unreadable images are not annotated"
            annotated = draw_people(image, result.people)
            if self._save:
                save_image(annotated, self._save, result.source.file, self._saved)
            return annotated, ""
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in NAME_ERRORS:
                raise
            log.debug("%s", result.source.file, exc_info=True)
            return None, describe(error)

    def __enter__(self) -> "ResultWriter":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self._files.close()


def _format_rows(rows: Iterable[Sequence]) -> str:
    """Return rows as lines of CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def describe_people(result: ImageResult) -> List[str]:
    """Return the lines to print for an image without a fault: the number of faces, then a line for each."""
    lines = [f"{result.source.file}: {count(len(result.people), 'face')}"]
    return lines + [_describe_person(number, person) for number, person in enumerate(result.people, 1)]


def _describe_person(number: int, person: Person) -> str:
    """Return the line to print for a face."""
    x1, y1, x2, y2 = person.box
    where = f"at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}, score {person.score:.3f}"
    if person.status == UNRELIABLE:
        return f"  {number}: unreliable: {person.reason}, {where}"
    p_male = f", P(male) {person.p_male:.3f}" if person.gender else ""
    return f"  {number}: {person.describe()}{p_male}, {where}"


def describe_left_out(left_out: Counter) -> str:
    """Return the line to print about files that are not images: how many there are, by suffix."""
    listed = ", ".join(f"{suffix or 'no suffix'} {number}" for suffix, number in left_out.most_common())
    total = sum(left_out.values())
    verb = "is not an image by its name" if total == 1 else "are not images by their names"
    return f"{count(total, 'file')} {verb}: {listed}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "no face", "1 face", "2 faces"."""
    return f"{number or 'no'} {noun}{'s' * (number > 1)}"


def find_sample() -> str:
    """Return the path of a photograph of a person that comes with matplotlib."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")

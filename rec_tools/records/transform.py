"""Make new .rec files from finished ones: merge, convert, sample. One record is in memory at a time."""

import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.faces.align import resize_square
from agedge.labels import LAYOUTS, SKIPPED, parse_layout
from agedge.records import RecordWriter, encode, read_crop, read_info
from agedge.results.overwrite import check_results, record_inputs, record_results
from agedge.sources import check_image, decode_image
from rec_tools.packing.crop_faces import crop_by_landmarks, take_whole_image
from rec_tools.packing.landmarks import FIXED, SET, Place
from rec_tools.packing.options import Preparation
from rec_tools.packing.prepare import can_keep_jpeg
from rec_tools.records.stored import StoredRecord, choose_layout, read_labels, read_stored, to_label, write_stored
from rec_tools.rows import Dropped

log = logging.getLogger(__name__)

OF_A_PACK = ("packed", "cut_by", "dropped", "copies", "split")

ALIKE = ("size", "align", "tool")  # keys of NAME.json that a merged file keeps if all its sources agree
IN_PLACE = 0.25  # pixels: a face that would move by less is kept, since encoding it again loses more


def merge(paths: Sequence[Path], out: Path, labels: str = "auto") -> int:
    """Write the records of several files to one, in order; return their number.

    Labels become gender, age_min, age_max; `labels` is the layout of files that do not declare theirs. Merged shards
    of a pack equal the pack of the whole data set. Raises `AgedgeError` if a file is missing or damaged, and
    `UsageError` if one is given twice or would be overwritten; nothing is written then.
    """
    check_files(paths, out)
    counts = []
    with RecordWriter(out) as writer:
        for path in paths:
            before = writer.count
            for stored in read_stored(path, choose_layout(path, labels)):
                write_stored(writer, stored)
            counts.append(writer.count - before)
        infos = [read_info(path) for path in paths]
        writer.info = {
            "source": join_texts(info.get("source") for info in infos),
            "terms": join_texts(info.get("terms") for info in infos),
            **{key: infos[0][key] for key in ALIKE if key in infos[0] and all_same([i.get(key) for i in infos])},
            "crop": join_crops(paths),
            "merged": [Path(path).name for path in paths],
            "merged_counts": counts,
        }
    return writer.count


def check_files(paths: Sequence[Path], out: Path) -> None:
    """Check the files before anything is written. Raises `AgedgeError` and `UsageError` as `merge` does."""
    if Path(out).suffix != ".rec":
        raise UsageError(f"{out}: the name of a record file must end in .rec")
    if Path(out).is_dir():
        raise UsageError(f"{out}: is a folder")
    for number, path in enumerate(paths):
        if not Path(path).is_file():
            raise AgedgeError(f"{path}: missing")
        if any(os.path.samefile(path, earlier) for earlier in paths[:number]):
            raise UsageError(f"{path}: given twice")
        if Path(out).exists() and os.path.samefile(path, out):
            raise UsageError(f"{out}: is an input; give --out another name")
    check_results(record_results("--out", out), record_inputs(paths))


def about_faces(info: Dict[str, Any]) -> Dict[str, Any]:
    """Return NAME.json without the keys that describe the pack which the faces come from."""
    return {key: value for key, value in info.items() if key not in OF_A_PACK}


def all_same(values: List[Any]) -> bool:
    """Return whether all values are equal."""
    return all(value == values[0] for value in values)


def join_texts(texts: Iterable[Optional[str]]) -> str:
    """Join different texts with "; ", leaving out those that another one contains."""
    unique = list(dict.fromkeys(text for text in texts if text))
    return "; ".join(text for text in unique if not any(text != other and text in other for other in unique))


def join_crops(paths: Sequence[Path]) -> Optional[dict]:
    """Return the crop that all files share; else log a warning and return None."""
    crops = [read_crop(path) for path in paths]
    known = next(((path, crop) for path, crop in zip(paths, crops) if crop), None)
    if known is None:
        return None
    first, shared = known
    for path, crop in zip(paths, crops):
        if crop is None or not crop.same_as(shared):
            log.warning("%s: its crop differs from that of %s: the merged file has no crop", path, first)
            return None
    return shared.to_json()


def convert(
    path: Path,
    out: Path,
    *,
    labels: str = "auto",
    to: str = LAYOUTS[0],
    size: int = 0,
    quality: int = 95,
    crop: Optional[Crop] = None,
) -> List[Dropped]:
    """Write a file with another label layout, image size, or crop; return the records that were left out.

    `size`: side in pixels; 0 leaves images as they are. `crop`: the new crop at its new size; faces are moved by their
    landmarks in NAME.csv, else by the crop of the whole file. JPEGs that need no change keep their bytes. Raises
    `AgedgeError` if ages are intervals and the layout `to` has one age, or if no record is left.
    """
    check_files([path], out)
    try:
        to = parse_layout(to)
    except UsageError as error:
        raise UsageError(f"to: {error}") from None
    if set(to.split(",")) & set(SKIPPED):
        raise UsageError(f"--to {to}: every number must be a gender or an age")
    info, packed, dropped = read_info(path), read_crop(path), []
    if "age" in to.split(","):
        refuse_intervals(path, labels, to)
    with RecordWriter(out) as writer:
        for stored in read_stored(path, labels):
            stored = refit(stored, size, quality, crop, packed)
            if isinstance(stored, Dropped):
                dropped.append(stored)
                continue
            writer.write_labels(as_numbers(stored.label, to), stored.jpeg)
            writer.write_row(to_label(stored.label), **stored.details)
        reasons = dict(Counter(row.reason for row in dropped))
        if writer.count == 0:
            raise AgedgeError(f"{path}: no record is left: {', '.join(reasons)}")
        if crop is None and packed is not None:
            crop = packed.resized(size) if size else packed
        writer.info = {
            **about_faces(info),
            "labels": to,
            "count": writer.count,
            "size": size or (crop.size if crop else info.get("size")),
            "crop": crop.to_json() if crop else None,
            "converted": {"from": Path(path).name, "left_out": reasons},
        }
    return dropped


def refuse_intervals(path: Path, labels: str, to: str) -> None:
    """Raise `AgedgeError` if a file has ages that are intervals."""
    known = read_labels(path, labels)
    if count := int((known[:, 1] < known[:, 2]).sum()):
        raise AgedgeError(f"{path}: {count} of {len(known)} ages are intervals, which labels {to} cannot hold")


def as_numbers(label: np.ndarray, layout: str) -> np.ndarray:
    """Convert a label (3,) [gender, age_min, age_max] to another layout; a known age must be exact."""
    named = {"gender": label[0], "age_min": label[1], "age_max": label[2], "age": label[1]}
    return np.array([named[name] for name in layout.split(",")], np.float32)


def refit(
    stored: StoredRecord, size: int, quality: int, crop: Optional[Crop], packed: Optional[Crop]
) -> Union[StoredRecord, Dropped]:
    """Resize a record, or move it to `crop` if given; if that fails, return `Dropped` with its number."""
    try:
        if crop is not None:
            return move_face(stored, quality, crop, packed)
        if not size or can_keep_jpeg(check_image(stored.jpeg), Preparation(size=size)):
            return stored
        face = take_whole_image(decode_image(stored.jpeg), stored.landmarks, size)
        assert face.image is not None
        return replace(stored, jpeg=encode(face.image, quality), landmarks=face.landmarks)
    except ValueError as error:
        return Dropped(str(stored.index), "image not readable", str(error))


def move_face(stored: StoredRecord, quality: int, crop: Crop, packed: Optional[Crop]) -> Union[StoredRecord, Dropped]:
    """Move a record's face to `crop`, by its own landmarks or else by those of its present crop `packed`."""
    if stored.landmarks is None and packed is None:
        return Dropped(str(stored.index), "no landmarks and no known crop")
    image = decode_image(stored.jpeg)
    landmarks, method = stored.landmarks, SET
    if landmarks is None:
        assert packed is not None
        image = resize_square(image, min(image.shape[:2]))
        landmarks, method = packed.resized(len(image)).points, FIXED
    face = crop_by_landmarks(image, Place(landmarks, method), crop)
    if face.image is None or face.landmarks is None:
        return Dropped(str(stored.index), face.method)
    if image.shape == face.image.shape and np.abs(face.landmarks - landmarks).max() < IN_PLACE:
        return stored
    moved = None if stored.landmarks is None else face.landmarks
    return replace(stored, jpeg=encode(face.image, quality), landmarks=moved)


def sample(path: Path, out: Path, faces: int, *, seed: int = 0, by_age: bool = False, labels: str = "auto") -> int:
    """Write some of a file's records, chosen at random, in the file's order; return how many the file has.

    `by_age`: spread them evenly over ages; faces of unknown age are then left out. Raises `UsageError` if the file has
    too few.
    """
    check_files([path], out)
    known = read_labels(path, labels)
    chosen = set(choose(known, faces, seed, by_age).tolist())
    if len(chosen) < faces:
        what = "faces of known age" if by_age else "faces"
        raise UsageError(f"{path}: has {len(chosen)} {what}, fewer than {faces}")
    with RecordWriter(out) as writer:
        for stored in read_stored(path, labels):
            if stored.index in chosen:
                write_stored(writer, stored)
        note = {"from": Path(path).name, "of": len(known), "seed": seed, "by_age": by_age}
        writer.info = {**about_faces(read_info(path)), "labels": LAYOUTS[0], "count": writer.count, "sampled": note}
    return len(known)


def choose(labels: np.ndarray, count: int, seed: int, by_age: bool) -> np.ndarray:
    """Choose up to `count` row numbers of labels (n, 3) at random, without replacement."""
    lots = np.random.default_rng(seed).random(len(labels))
    if not by_age:
        return np.argsort(lots, kind="stable")[:count]
    rows = np.flatnonzero(labels[:, 1] >= 0)
    _, age = np.unique(np.floor(labels[rows, 1:]), axis=0, return_inverse=True)
    order = np.lexsort((lots[rows], age))
    turn = np.arange(len(rows)) - np.searchsorted(age[order], age[order])
    # the first of every age, then the second of every age, ..
    return rows[order[np.lexsort((lots[rows[order]], turn))]][:count]

"""New .rec files out of finished ones: merged, converted, sampled; one record at a time, and what lies beside it."""

import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import List, Optional, Sequence, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.faces.align import resize_square
from agedge.labels import LAYOUTS, SKIPPED, parse_layout
from agedge.records import RecordWriter, encode, read_crop, read_info
from agedge.results.overwrite import check_results, record_inputs, record_results
from agedge.sources import check_image, decode_image
from rec_tools.packing.crop_faces import cut_by_landmarks, take_whole
from rec_tools.packing.landmarks import FIXED, SET, Place
from rec_tools.packing.options import Preparation
from rec_tools.packing.prepare import can_stay
from rec_tools.records.stored import Stored, as_label, read_labels, read_stored, told_layout, write_stored
from rec_tools.rows import Dropped

log = logging.getLogger(__name__)

OF_A_PACK = ("packed", "cut_by", "dropped", "copies", "split")

ALIKE = ("size", "align", "tool")  # what NAME.json says of a merged file where all its parts say the same
Refitted = Union[Stored, Dropped]
IN_PLACE = 0.25  # pixels: a face that would move by less stays as it is, for encoding it again costs more


def merge(paths: Sequence[Path], out: Path, labels: str = "auto") -> int:
    """Write the records of several files into one, in their order; returns their number.

    Labels become those of the contract; `labels` is the layout of the files that do not say it. Shards of one pack
    give the file that it would have been. Raises `AgedgeError` where a file is missing or damaged, and `UsageError`
    where one is given twice or would be overwritten; nothing is written then.
    """
    check_files(paths, out)
    counts = []
    with RecordWriter(out) as writer:
        for path in paths:
            before = writer.count
            for stored in read_stored(path, told_layout(path, labels)):
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
    """Raises what `merge` says, before anything is written."""
    if Path(out).suffix != ".rec":
        raise UsageError(f"{out}: the name of a record file ends in .rec")
    if Path(out).is_dir():
        raise UsageError(f"{out}: is a folder")
    for number, path in enumerate(paths):
        if not Path(path).is_file():
            raise AgedgeError(f"{path}: missing")
        if any(os.path.samefile(path, earlier) for earlier in paths[:number]):
            raise UsageError(f"{path}: given twice")
        if Path(out).exists() and os.path.samefile(path, out):
            raise UsageError(f"{out}: is read from; give --out another name")
    check_results(record_results("--out", out), record_inputs(paths))


def about_faces(info: dict) -> dict:
    """What NAME.json says of the faces themselves, without what it says of the pack that they come from."""
    return {key: value for key, value in info.items() if key not in OF_A_PACK}


def all_same(values: list) -> bool:
    return all(value == values[0] for value in values)


def join_texts(texts) -> str:
    """What several files say, each thing once: what another one contains is left out."""
    texts = list(dict.fromkeys(text for text in texts if text))
    return "; ".join(text for text in texts if not any(text != other and text in other for other in texts))


def join_crops(paths: Sequence[Path]) -> Optional[dict]:
    """The crop of all files where it is one; else None, and a warning."""
    crops = [read_crop(path) for path in paths]
    if not any(crops):
        return None
    known = next(number for number, crop in enumerate(crops) if crop)
    for path, crop in zip(paths, crops):
        if crop is None or not crop.same_as(crops[known]):
            log.warning("%s: its faces are cut in another way than those of %s: no crop for all", path, paths[known])
            return None
    return crops[known].to_json()


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
    """Write a file with another label layout, image size, or crop; returns the records that had to be left out.

    `size`: side in pixels, 0 leaves images as they are. `crop`, at the size that is wanted, moves the faces: by a
    record's landmarks in NAME.csv, else by the crop of the whole file. JPEGs that are as they should be keep their
    bytes. Raises `AgedgeError` where ages are intervals and the layout `to` has one age, and where no record is left.
    """
    check_files([path], out)
    try:
        to = parse_layout(to)
    except UsageError as error:
        raise UsageError(f"to: {error}") from None
    if set(to.split(",")) & set(SKIPPED):
        raise UsageError(f"--to {to}: every number that is written must be a gender or an age")
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
            writer.write_row(as_label(stored.label), **stored.details)
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
    known = read_labels(path, labels)
    if count := int((known[:, 1] < known[:, 2]).sum()):
        raise AgedgeError(f"{path}: {count} of {len(known)} ages are intervals, which labels {to} cannot hold")


def as_numbers(label: np.ndarray, layout: str) -> np.ndarray:
    """A label (3,) by the contract as the numbers of a layout; an age that is known is exact."""
    named = dict(zip(("gender", "age_min", "age_max", "age"), (*label, label[1])))
    return np.array([named[name] for name in layout.split(",")], np.float32)


def refit(stored: Stored, size: int, quality: int, crop: Optional[Crop], packed: Optional[Crop]) -> Refitted:
    """A record at `size` or, if given, cut as `crop`; what cannot be is `Dropped` with its number and the reason."""
    try:
        if crop is not None:
            return move_face(stored, quality, crop, packed)
        if not size or can_stay(check_image(stored.jpeg), Preparation(size=size)):
            return stored
        face = take_whole(decode_image(stored.jpeg), stored, size)
        return replace(stored, jpeg=encode(face.image, quality), landmarks=face.landmarks)
    except ValueError as error:
        return Dropped(str(stored.index), "image not readable", str(error))


def move_face(stored: Stored, quality: int, crop: Crop, packed: Optional[Crop]) -> Refitted:
    """A record's face where `crop` wants it: by its own landmarks, else by those of the crop that it has now."""
    if stored.landmarks is None and packed is None:
        return Dropped(str(stored.index), "no landmarks and no known crop")
    image = decode_image(stored.jpeg)
    place = Place(stored.landmarks, SET)
    if stored.landmarks is None:
        image = resize_square(image, min(image.shape[:2]))
        place = Place(packed.resized(len(image)).points, FIXED)
    face = cut_by_landmarks(image, place, crop)
    if face.image is None:
        return Dropped(str(stored.index), face.way)
    if image.shape == face.image.shape and np.abs(face.landmarks - place.landmarks).max() < IN_PLACE:
        return stored
    landmarks = None if stored.landmarks is None else face.landmarks
    return replace(stored, jpeg=encode(face.image, quality), landmarks=landmarks)


def sample(path: Path, out: Path, faces: int, *, seed: int = 0, by_age: bool = False, labels: str = "auto") -> int:
    """Write some of a file's records, chosen at random, in the file's order; returns how many there were.

    `by_age`: as many of each age as there can be; a face of unknown age is none then. Raises `UsageError` where there
    are fewer than are asked for.
    """
    check_files([path], out)
    known = read_labels(path, labels)
    chosen = set(choose(known, faces, seed, by_age).tolist())
    if len(chosen) < faces:
        what = "faces of known age" if by_age else "faces"
        raise UsageError(f"{path}: has {len(chosen)} {what}, {faces} are asked for")
    with RecordWriter(out) as writer:
        for stored in read_stored(path, labels):
            if stored.index in chosen:
                write_stored(writer, stored)
        note = {"from": Path(path).name, "of": len(known), "seed": seed, "by_age": by_age}
        writer.info = {**about_faces(read_info(path)), "labels": LAYOUTS[0], "count": writer.count, "sampled": note}
    return len(known)


def choose(labels: np.ndarray, count: int, seed: int, by_age: bool) -> np.ndarray:
    """Up to `count` of the row numbers of labels (n, 3), at random, without replacement."""
    lots = np.random.default_rng(seed).random(len(labels))
    if not by_age:
        return np.argsort(lots, kind="stable")[:count]
    rows = np.flatnonzero(labels[:, 1] >= 0)
    _, age = np.unique(np.floor(labels[rows, 1:]), axis=0, return_inverse=True)
    order = np.lexsort((lots[rows], age))
    turn = np.arange(len(rows)) - np.searchsorted(age[order], age[order])
    # the first of every age, then the second of every age, ..
    return rows[order[np.lexsort((lots[rows[order]], turn))]][:count]

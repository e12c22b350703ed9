"""Raw data sets into RecordIO: python -m rec_tools pack|inspect|merge|split|convert|sample|draw|annotate|compose"""

import os
import re
from pathlib import Path
from typing import List, Optional

import numpy as np
import typer

from agedge.cli import say
from agedge.crop import Crop
from agedge.errors import UsageError, choices
from agedge.results.kinds import ANNOTATIONS, FOLDER, PICTURE
from agedge.results.overwrite import Result, check_results, part_results, record_inputs
from rec_tools import cli_records
from rec_tools.packing.assign_splits import check_shard, parse_drop
from rec_tools.packing.landmarks import CHOICES as FACES
from rec_tools.packing.options import ALIGN, Preparation
from rec_tools.packing.pack import pack as pack_rows
from rec_tools.packing.pack import take_shard
from rec_tools.packing.split import Split
from rec_tools.packing.write_splits import Report, say_copies
from rec_tools.packing.write_splits import say as list_reasons
from rec_tools.readers import DATASETS, find_reader, parse_options
from rec_tools.records.resplit import resplit

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

SPLIT = typer.Option("", help="Parts and shares, such as train=0.9,val=0.1; no person or copy is in two.")
FOLDS = typer.Option("", help="fold0, fold1, ..: their number; or persons, one fold each.")
DROP = typer.Option("", help="duplicates: keep one of the copies of an image; conflicts: none whose labels differ.")
SEED = typer.Option(0, help="Seed of what is left to chance.")
WORKERS = typer.Option(os.cpu_count() or 1, min=0, help="Worker processes; 0: one. The output is the same.")


@app.callback()
def main():
    """Commands: raw data sets into RecordIO, and what there is to do with it."""


@app.command()
def pack(
    dataset: str = typer.Argument("drawn", help=f"One of {', '.join(DATASETS)}."),
    options: Optional[List[str]] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="What the data set's reader takes, such as min_face_score=2."
    ),
    root: Path = typer.Option(
        ..., readable=False, help="The data set's folder, as it is distributed (drawn: where to draw it)."
    ),
    out: Path = typer.Option(..., help="Where PART.rec, .idx, .json and .csv go."),
    split: str = SPLIT,
    folds: str = FOLDS,
    drop: str = DROP,
    seed: int = SEED,
    align: str = typer.Option(
        "", help="mtcnn, essh: cut faces by landmarks; set: by what the set says; none: the whole image."
    ),
    faces: Optional[str] = typer.Option(
        None, help="Of several faces nearest, to the set's box (by default); central; or drop the image."
    ),
    crop: Optional[str] = typer.Option(None, help="Where landmarks go: arcface (by default), utkface."),
    margin: Optional[float] = typer.Option(
        None, min=-0.5, max=2, help="How much more than the template or the set's box to show, as a share of its side."
    ),
    size: int = typer.Option(112, min=0, max=1024, help="Side of the packed faces in pixels; 0: images as they are."),
    quality: int = typer.Option(95, min=1, max=100, help="JPEG quality."),
    max_megapixels: float = typer.Option(100, min=0.01, help="Larger images are dropped before they are decoded."),
    workers: int = WORKERS,
    shard: str = typer.Option("", help="I/N: only the I-th of N parts of the set, from 0; merge puts them together."),
    source: str = typer.Option("", help="What the set is, for the cards of models that are trained on it."),
    terms: str = typer.Option("", help="On what terms it may be used."),
    min_score: Optional[float] = typer.Option(
        None, min=0, max=1, help="With --align mtcnn or essh: leave out faces of a lower score."
    ),
    max_side: Optional[int] = typer.Option(
        None, min=1, help="With --align mtcnn or essh: shrink larger images to this side to find faces."
    ),
):
    """Pack a data set into one .rec a part. Stopped, the same command goes on where it was."""
    reader = find_reader(dataset)
    chosen = parse_options(reader, options or ())
    align = align or getattr(reader, "ALIGN", "none")
    for name, value, known in (("align", align, ALIGN), ("faces", faces or FACES[0], FACES)):
        if value not in known:
            raise choices(name, value, known)
    if align == "none" and (crop or margin is not None or faces):
        raise UsageError("crop, margin and faces: --align none takes the whole image; say --align mtcnn or set")
    if align in ("none", "set") and not (min_score is None and max_side is None):
        raise UsageError(f"min-score and max-side: --align {align} finds no faces; say --align mtcnn or essh")
    parts, dropped, suffix = Split.parse(split, folds, seed), parse_drop(drop), ""
    set_crop = getattr(reader, "find_crop", lambda root: None)(root)
    preparation = Preparation(
        size=size,
        align=align,
        crop=Crop.named(crop or "arcface", size or 112, margin or 0.0),
        margin=margin or 0.0,
        set_crop=Crop.named(set_crop[0], size or 112, set_crop[1]) if set_crop else None,
        quality=quality,
        faces=faces or FACES[0],
        root=getattr(reader, "find_images", lambda root, **_: root)(root, **chosen),
        max_pixels=max_megapixels * 1e6,
        min_score=min_score,
        max_side=max_side,
    )
    rows = reader.read(root, **chosen)
    if shard:
        check_shard(parts, dropped)
        index, count = parse_shard(shard)
        rows = take_shard(lambda: reader.read(root, **chosen), index, count)
        suffix = f"-{index:0{len(str(count - 1))}}of{count}"  # so that the names sort as the shards follow one another
    check_results(part_results("--out", out, parts.shares, suffix))
    report = pack_rows(
        rows,
        out,
        parts,
        preparation,
        source=source or reader.SOURCE,
        terms=terms or reader.TERMS,
        workers=max(1, workers),  # never in this process: an image that crashes a decoder would end it
        drop=dropped,
        suffix=suffix,
        progress=True,
    )
    print_report(report, out, suffix)


@app.command()
def split(
    file: Path = typer.Argument(..., help="A .rec."),
    out: Path = typer.Option(..., help="Where PART.rec, .idx, .json and .csv go."),
    split: str = SPLIT,
    folds: str = FOLDS,
    drop: str = DROP,
    seed: int = SEED,
    labels: str = cli_records.LABELS,
    workers: int = typer.Option(os.cpu_count() or 1, min=1, help="Threads that look at images."),
):
    """Split a .rec: every person, and every image with its copies, in one part."""
    parts, dropped = Split.parse(split, folds, seed), parse_drop(drop)
    check_results(part_results("--out", out, parts.shares), record_inputs([file]))
    print_report(resplit(file, out, parts, dropped, labels, workers, progress=True), out)


def parse_shard(text: str) -> tuple:
    """(index, count) from "I/N". Raises `UsageError`."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise UsageError(f"shard '{text}': write it as I/N, I from 0 to N-1, such as 0/4")
    return int(found[1]), int(found[2])


def print_report(report: Report, out: Path, suffix: str = "") -> None:
    shown = [f"{part}{suffix}.rec ({report.packed[part]})" for part in report.parts]
    several = f", .. {shown[-1]}: {len(shown)} files" if len(shown) > 12 else ""
    say("packed    " + ", ".join(shown[:10] if several else shown) + several)
    if report.ways:
        say("cut by    " + list_reasons(dict(report.ways.most_common())))
    dropped = list_reasons(dict(report.reasons.most_common()))
    say("dropped   " + (f"{dropped}; see {out / f'dropped{suffix}.csv'}" if dropped else "none"))
    for line in say_copies(report.copies):
        say(f"copies    {line}")


for command in (cli_records.inspect, cli_records.merge, cli_records.convert, cli_records.sample):
    app.command()(command)


@app.command()
def draw(
    out: Path = typer.Option(..., help="The folder to write, in the layout of IMDB-WIKI."),
    faces: int = typer.Option(3000, help="How many faces."),
    seed: int = typer.Option(0, help="Same seed, same faces."),
    name: str = typer.Option("imdb", help="imdb or wiki."),
    sheet: Optional[Path] = typer.Option(None, help="Also a sheet of faces by age and gender, as PNG."),
):
    """Draw the embedded data set: faces made by code, in IMDB-WIKI's layout."""
    from rec_tools.drawn.draw import draw as draw_faces

    check_results([Result("--out", out, FOLDER), Result("--sheet", sheet, PICTURE)])
    draw_faces(out, faces, seed, name, sheet)


@app.command()
def annotate(
    root: Path = typer.Option(..., help="A folder of pictures of faces, with its folders."),
    out: Path = typer.Option(..., help="The label.txt to write."),
    landmarks: Optional[Path] = typer.Option(
        None, help="A table with the main faces' points: file, left_eye_x, left_eye_y, right_eye_x, .."
    ),
    min_score: float = typer.Option(0.9, min=0, max=1, help="Faces that MTCNN is less sure of are to be ignored."),
    centre: bool = typer.Option(False, help="Where no face is found, take the set's median box, landmarks unknown."),
    hold_out: int = typer.Option(0, min=0, help="One picture of so many goes to NAME_val.txt instead; 0: none."),
    workers: int = WORKERS,
    max_side: Optional[int] = typer.Option(None, min=1, help="Shrink larger pictures to this side to find faces."),
):
    """Find the faces of a folder's pictures by MTCNN, for the training of a detector."""
    from rec_tools.detection.annotate import annotate as annotate_pictures
    from rec_tools.detection.annotate import name_held_out

    results = [Result("--out", path, ANNOTATIONS) for path in (out, name_held_out(out))[: 1 + bool(hold_out)]]
    check_results(results, [landmarks] if landmarks else [])
    report = annotate_pictures(
        root, out, landmarks, min_score, centre, hold_out, max(1, workers), progress=True, max_side=max_side
    )
    say(f"annotated  {report.faces} faces in {report.pictures} pictures: {out}")
    say(f"main face  {list_reasons(dict(report.ways.most_common()))}")
    say(f"left out   {list_reasons(dict(report.left_out.most_common())) or 'none'}")
    if report.frame:
        low, middle = np.quantile(report.frame.agreement, (0.05, 0.5))
        say(f"boxes from landmarks overlap MTCNN's by {middle:.2f} in the median, by over {low:.2f} in 95% of faces")


@app.command()
def compose(
    faces: List[Path] = typer.Argument(..., help="Files of annotated pictures of faces, such as NAME_val.txt."),
    backgrounds: Path = typer.Option(
        ..., help="A folder of photographs without a face; the tenth is used that training leaves out."
    ),
    out: Path = typer.Option(..., help="Where images/ and label.txt go."),
    count: int = typer.Option(300, min=1, help="How many scenes."),
    size: int = typer.Option(480, min=64, help="Their sides, in pixels."),
    seed: int = SEED,
):
    """Compose scenes of known faces, to measure a detector with."""
    from rec_tools.detection.compose import compose as compose_scenes

    check_results([Result("--out", out, FOLDER)], faces)
    photos = compose_scenes(faces, backgrounds, out, count, size, seed)
    say(f"composed {sum(map(len, photos))} faces in {len(photos)} scenes: {out / 'label.txt'}")

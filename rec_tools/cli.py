"""Pack face data sets into RecordIO files, and work with them: python -m rec_tools COMMAND."""

import os
import re
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
import typer

from agedge.cli import say
from agedge.crop import Crop
from agedge.errors import UsageError, choices
from agedge.results.kinds import ANNOTATIONS, FOLDER, MARKED_IMAGE
from agedge.results.overwrite import Result, check_results, record_inputs, split_results
from rec_tools import cli_records
from rec_tools.packing.assign_splits import check_shard, parse_drop
from rec_tools.packing.landmarks import CHOICES as FACES
from rec_tools.packing.options import ALIGN, Preparation
from rec_tools.packing.pack import pack as pack_rows
from rec_tools.packing.pack import take_shard
from rec_tools.packing.split import SplitScheme
from rec_tools.packing.write_splits import PackReport, format_counts, format_duplicates
from rec_tools.readers import DATASETS, find_reader, parse_options
from rec_tools.records.resplit import resplit

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

SPLIT = typer.Option(
    "",
    help="Splits and their shares, such as train=0.9,val=0.1. A person and all copies of an image stay in one split.",
)
FOLDS = typer.Option("", help="Number of folds: fold0, fold1, ..; or 'persons': one fold per person.")
DROP = typer.Option(
    "",
    help="duplicates: keep one copy of an image; conflicts: drop copies whose labels differ. Or both, by comma.",
)
SEED = typer.Option(0, help="Random seed.")
WORKERS = typer.Option(
    os.cpu_count() or 1, min=0, help="Worker processes (0 means 1). The output does not depend on it."
)


@app.callback()
def main() -> None:
    """Pack face data sets into RecordIO files; inspect, merge, split and convert them."""


@app.command()
def pack(
    dataset: str = typer.Argument("drawn", help=f"One of {', '.join(DATASETS)}."),
    options: Optional[List[str]] = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Options of this data set, such as min_face_score=2: see docs/datasets.md."
    ),
    root: Path = typer.Option(
        ..., readable=False, help="The data set's folder, laid out as distributed (drawn: the folder to draw into)."
    ),
    out: Path = typer.Option(..., help="Output folder: SPLIT.rec, .idx, .json, .csv per split."),
    split: str = SPLIT,
    folds: str = FOLDS,
    drop: str = DROP,
    seed: int = SEED,
    align: str = typer.Option(
        "",
        help="mtcnn, essh: crop by a detector's landmarks; set: by the data set's landmarks or box; none: whole image.",
    ),
    faces: Optional[str] = typer.Option(
        None, help="Which of several faces: nearest to the data set's box (default), central, or drop the image."
    ),
    crop: Optional[str] = typer.Option(None, help="Template for the landmarks: arcface (default), utkface."),
    margin: Optional[float] = typer.Option(
        None, min=-0.5, max=2, help="Margin around the template or the data set's box, as a share of its side."
    ),
    size: int = typer.Option(
        112, min=0, max=1024, help="Side of the packed faces in pixels; 0: keep images as they are."
    ),
    quality: int = typer.Option(95, min=1, max=100, help="JPEG quality."),
    max_megapixels: float = typer.Option(100, min=0.01, help="Larger images are dropped before they are decoded."),
    workers: int = WORKERS,
    shard: str = typer.Option("", help="I/N: pack only shard I (from 0) of N; `merge` joins them."),
    source: str = typer.Option("", help="Name of the data set, written to the cards of models trained on it."),
    terms: str = typer.Option("", help="Its terms of use, likewise."),
    min_score: Optional[float] = typer.Option(
        None, min=0, max=1, help="With --align mtcnn or essh: ignore faces with a lower detector score."
    ),
    max_side: Optional[int] = typer.Option(
        None, min=1, help="With --align mtcnn or essh: shrink larger images to this side for detection."
    ),
) -> None:
    """Pack a data set into one .rec per split. If it is interrupted, the same command resumes it."""
    reader = find_reader(dataset)
    chosen = parse_options(reader, options or ())
    align = align or getattr(reader, "ALIGN", "none")
    for name, value, known in (("align", align, ALIGN), ("faces", faces or FACES[0], FACES)):
        if value not in known:
            raise choices(name, value, known)
    if align == "none" and (crop or margin is not None or faces):
        raise UsageError("crop, margin and faces: --align none takes the whole image; use --align mtcnn or set")
    if align in ("none", "set") and not (min_score is None and max_side is None):
        raise UsageError(f"min-score and max-side: --align {align} runs no detector; use --align mtcnn or essh")
    scheme, dropped, suffix = SplitScheme.parse(split, folds, seed), parse_drop(drop), ""
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
        check_shard(scheme, dropped)
        index, count = parse_shard(shard)
        rows = take_shard(lambda: reader.read(root, **chosen), index, count)
        suffix = f"-{index:0{len(str(count - 1))}}of{count}"  # so that the names sort in the order of the shards
    check_results(split_results("--out", out, scheme.shares, suffix))
    report = pack_rows(
        rows,
        out,
        scheme,
        preparation,
        source=source or reader.SOURCE,
        terms=terms or reader.TERMS,
        workers=max(1, workers),  # never in this process, which an image that crashes the decoder would end
        drop=dropped,
        suffix=suffix,
        progress=True,
    )
    print_report(report, out, suffix)


@app.command()
def split(
    file: Path = typer.Argument(..., help="The .rec to split."),
    out: Path = typer.Option(..., help="Output folder: SPLIT.rec, .idx, .json, .csv per split."),
    split: str = SPLIT,
    folds: str = FOLDS,
    drop: str = DROP,
    seed: int = SEED,
    labels: str = cli_records.LABELS,
    workers: int = typer.Option(os.cpu_count() or 1, min=1, help="Threads that decode images."),
) -> None:
    """Split a .rec. A person, and all copies of an image, stay in one split."""
    scheme, dropped = SplitScheme.parse(split, folds, seed), parse_drop(drop)
    check_results(split_results("--out", out, scheme.shares), record_inputs([file]))
    print_report(resplit(file, out, scheme, dropped, labels, workers, progress=True), out)


def parse_shard(text: str) -> Tuple[int, int]:
    """Parse "I/N" to (index, count). Raises `UsageError`."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise UsageError(f"shard '{text}': write it as I/N, I from 0 to N-1, such as 0/4")
    return int(found[1]), int(found[2])


def print_report(report: PackReport, out: Path, suffix: str = "") -> None:
    """Print the counts of packed and dropped rows, crops and copies."""
    shown = [f"{split}{suffix}.rec ({report.packed[split]})" for split in report.splits]
    several = f", .. {shown[-1]}: {len(shown)} files" if len(shown) > 12 else ""
    say("packed    " + ", ".join(shown[:10] if several else shown) + several)
    if report.methods:
        say("cut by    " + format_counts(report.methods))
    dropped = format_counts(report.reasons)
    say("dropped   " + (f"{dropped}; see {out / f'dropped{suffix}.csv'}" if dropped else "none"))
    for line in format_duplicates(report.copies):
        say(f"copies    {line}")


for command in (cli_records.inspect, cli_records.merge, cli_records.convert, cli_records.sample):
    app.command()(command)


@app.command()
def draw(
    out: Path = typer.Option(..., help="The folder to write, laid out as IMDB-WIKI."),
    faces: int = typer.Option(3000, help="Number of faces."),
    seed: int = typer.Option(0, help="Random seed."),
    name: str = typer.Option("imdb", help="Name of the .mat: imdb or wiki."),
    sheet: Optional[Path] = typer.Option(None, help="Also write a PNG sheet of faces by age and gender."),
) -> None:
    """Draw a data set of synthetic faces, laid out as IMDB-WIKI."""
    from rec_tools.drawn.draw import draw as draw_faces

    check_results([Result("--out", out, FOLDER), Result("--sheet", sheet, MARKED_IMAGE)])
    draw_faces(out, faces, seed, name, sheet)


@app.command()
def annotate(
    root: Path = typer.Option(..., help="A folder of images of faces, with its subfolders."),
    out: Path = typer.Option(..., help="The label.txt to write."),
    landmarks: Optional[Path] = typer.Option(
        None, help="A table with the landmarks of the main faces: file, left_eye_x, left_eye_y, right_eye_x, .."
    ),
    min_score: float = typer.Option(0.9, min=0, max=1, help="Mark faces with a lower detector score as ignored."),
    centre: bool = typer.Option(
        False, help="If no face is found in an image, use the median box of all, without landmarks."
    ),
    hold_out: int = typer.Option(0, min=0, help="Write one of every N images to NAME_val.txt instead; 0: none."),
    workers: int = WORKERS,
    max_side: Optional[int] = typer.Option(None, min=1, help="Shrink larger images to this side for detection."),
) -> None:
    """Annotate the faces in a folder of images by MTCNN, to train a detector."""
    from rec_tools.detection.annotate import annotate as annotate_images
    from rec_tools.detection.annotate import name_held_out

    results = [Result("--out", path, ANNOTATIONS) for path in (out, name_held_out(out))[: 1 + bool(hold_out)]]
    check_results(results, [landmarks] if landmarks else [])
    report = annotate_images(
        root, out, landmarks, min_score, centre, hold_out, max(1, workers), progress=True, max_side=max_side
    )
    say(f"annotated  {report.faces} faces in {report.images} images: {out}")
    say(f"main face  {format_counts(report.methods)}")
    say(f"left out   {format_counts(report.left_out) or 'none'}")
    if report.box_model:
        low, middle = np.quantile(report.box_model.agreement, (0.05, 0.5))
        say(f"boxes from landmarks overlap MTCNN's by {middle:.2f} in the median, by over {low:.2f} in 95% of faces")


@app.command()
def compose(
    faces: List[Path] = typer.Argument(..., help="Annotation files of images of faces, such as NAME_val.txt."),
    backgrounds: Path = typer.Option(
        ..., help="A folder of photographs without faces; only the tenth that training leaves out is used."
    ),
    out: Path = typer.Option(..., help="Output folder: images/ and label.txt."),
    count: int = typer.Option(300, min=1, help="Number of scenes."),
    size: int = typer.Option(480, min=64, help="Side of a scene in pixels."),
    seed: int = SEED,
) -> None:
    """Compose scenes from annotated faces, to evaluate a detector."""
    from rec_tools.detection.compose import compose as compose_scenes

    check_results([Result("--out", out, FOLDER)], faces)
    photos = compose_scenes(faces, backgrounds, out, count, size, seed)
    say(f"composed {sum(map(len, photos))} faces in {len(photos)} scenes: {out / 'label.txt'}")

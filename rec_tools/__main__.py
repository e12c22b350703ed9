"""Raw data sets into RecordIO."""

import logging
import os
from pathlib import Path
from typing import Optional

import typer

from agedge.cli import run_door
from agedge.errors import choices
from agedge.faces.crop import Crop
from rec_tools.pack import pack as pack_rows
from rec_tools.pack import say
from rec_tools.prepare import Preparation
from rec_tools.readers import DATASETS, find_reader
from rec_tools.split import Split

log = logging.getLogger("rec_tools")
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

ALIGN = ("none", "mtcnn", "essh")


@app.callback()
def main():
    """Raw data sets into RecordIO."""


@app.command()
def pack(
    dataset: str = typer.Argument("drawn", help=f"One of {', '.join(DATASETS)}."),
    root: Path = typer.Option(..., help="The data set's folder, as it is distributed (drawn: where to draw it)."),
    out: Path = typer.Option(..., help="Where PART.rec, .idx, .json and .csv go."),
    split: str = typer.Option("", help="Parts and shares, such as train=0.9,val=0.1; no person or copy is in two."),
    align: str = typer.Option("none", help="mtcnn or essh: cut faces by their landmarks; none: take the whole image."),
    crop: str = typer.Option("arcface", help="Where landmarks go: arcface, utkface."),
    margin: float = typer.Option(
        0.0, min=-0.5, max=2, help="How much more than the template to show, as a share of its side."
    ),
    size: int = typer.Option(112, min=16, max=1024, help="Side of the packed faces in pixels."),
    quality: int = typer.Option(95, min=1, max=100, help="JPEG quality."),
    seed: int = typer.Option(0, help="Seed of the split."),
    workers: int = typer.Option(os.cpu_count() or 1, min=0, help="Worker processes; 0: none. The output is the same."),
    table: Optional[Path] = typer.Option(None, help="faces: the CSV, where it is not ROOT/faces.csv."),
    faces: Optional[int] = typer.Option(None, help="drawn: how many to draw where ROOT is not there yet (3000)."),
    name: Optional[str] = typer.Option(None, help="drawn: draw imdb or wiki (imdb)."),
    source: str = typer.Option("", help="faces: what the set is, for the cards of models that are trained on it."),
    terms: str = typer.Option("", help="faces: on what terms it may be used."),
    drawing: Optional[int] = typer.Option(None, help="drawn: seed of the drawing (0)."),
):
    """Pack a data set into one .rec a part."""
    reader = find_reader(dataset)
    if align not in ALIGN:
        raise choices("align", align, ALIGN)
    # A data set's own options mean nothing to the others.
    options = {"faces": {"table": table}, "drawn": {"faces": faces, "name": name, "seed": drawing}}.get(dataset, {})
    set_crop = getattr(reader, "find_crop", lambda root: None)(root)
    preparation = Preparation(
        size=size,
        align=align,
        crop=Crop.named(crop, size, margin),
        set_crop=Crop.named(set_crop[0], size, set_crop[1]) if set_crop else None,
        quality=quality,
    )
    shares = Split.parse(split, seed)
    report = pack_rows(
        reader.read(root, **options),
        out,
        shares,
        preparation,
        source=source or reader.SOURCE,
        terms=terms or reader.TERMS,
        workers=workers,
        progress=True,
    )
    print("packed    " + ", ".join(f"{part}.rec ({report.packed[part]})" for part in shares.shares))
    print("aligned   " + say(dict(report.ways)))
    print("dropped   " + (say(report.reasons()) or "none") + (f"; see {out / 'dropped.csv'}" if report.dropped else ""))
    copies = report.copies()
    if copies["groups"]:
        print(
            "copies    {groups} groups of identical files ({rows} rows too many), {groups_with_different_labels} "
            "of them with different labels; each group is in one part".format(**copies)
        )


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

    draw_faces(out, faces, seed, name, sheet)


if __name__ == "__main__":
    run_door(app)

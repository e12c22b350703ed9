"""The commands on finished .rec files, as `python -m rec_tools` has them: inspect, merge, convert, sample."""

import os
from collections import Counter
from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import say
from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.labels import LAYOUTS
from agedge.records import read_info
from agedge.results.kinds import FOLDER, PICTURE, SUMMARY
from agedge.results.overwrite import Result, check_results, record_inputs, write_json_result
from rec_tools.records.stored import name_some, told_layout

LABELS = typer.Option("auto", help="What a label's numbers are: gender,age or age or age,gender,- and so on.")


def inspect(
    files: List[Path] = typer.Argument(..., help="One .rec, or several: copies are looked for across them as well."),
    labels: str = LABELS,
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write the same here, and every group of copies."),
    report: Optional[Path] = typer.Option(None, help="A folder for histogram.png and faces.png."),
    repair: bool = typer.Option(False, help="Rebuild a wrong index; keep what can be read of a damaged file."),
    workers: int = typer.Option(os.cpu_count() or 1, min=1, help="Threads that decode images."),
    verify: bool = typer.Option(False, help="Compare the files with their checksums, and name the damaged records."),
):
    """What is in .rec files: sizes, labels, ages, bad records, copies, and whether .idx and .csv belong to them."""
    from rec_tools.records.repair import repair as repair_file
    from rec_tools.records.scan import survey
    from rec_tools.records.summary import format_summary, summarise_files

    results = [Result("--json", json_file, SUMMARY), Result("--report", report, FOLDER)]
    if report:
        results += [Result("--report", report / name, PICTURE) for name in ("histogram.png", "faces.png")]
    check_results(results, record_inputs(files))
    for number, file in enumerate(files):
        if file.exists() and any(earlier.exists() and file.samefile(earlier) for earlier in files[:number]):
            raise UsageError(f"{file}: given twice")
    if repair:
        faults = []
        for file in files:
            try:
                say(repair_file(file, labels))
            except AgedgeError as error:
                faults.append(str(error))
        if faults:
            raise AgedgeError("; ".join(faults))
    if verify:
        verify_files(files)
    surveys = [survey(file, told_layout(file, labels), workers, progress=True) for file in files]
    summary = summarise_files(surveys)
    say(*format_summary(summary).split("\n"))
    if json_file:
        write_json_result(json_file, summary)
    if report:
        from rec_tools.records.plots import draw_faces, plot_ages

        plot_ages(surveys, report / "histogram.png")
        draw_faces(surveys, report / "faces.png")
    if damages := [one.damage for one in surveys if one.damage]:
        raise AgedgeError("; ".join(damages) + "; inspect --repair keeps what can be read")


def verify_files(files: List[Path]) -> None:
    """Print how files compare with their checksums. Raises `AgedgeError` with the lines of those that are damaged."""
    from rec_tools.records.verify import verify as verify_file

    found = [verify_file(file) for file in files]
    for one in found:
        if one.good:
            say(one)
    if damaged := [str(one) for one in found if not one.good]:
        raise AgedgeError("; ".join(damaged))


def merge(
    files: List[Path] = typer.Argument(..., help="The .rec files, in order."),
    out: Path = typer.Option(..., help="The .rec to write."),
    labels: str = LABELS,
):
    """Put several .rec files into one, such as the shards of a pack."""
    from rec_tools.records.transform import merge as merge_files

    count = merge_files(files, out, labels)
    say(f"{out}: {count} records of {len(files)} files")


def convert(
    file: Path = typer.Argument(..., help="The .rec to read."),
    out: Path = typer.Option(..., help="The .rec to write."),
    labels: str = LABELS,
    to: str = typer.Option(LAYOUTS[0], help=f"The labels to write: {'; '.join(LAYOUTS)}."),
    size: Optional[int] = typer.Option(None, min=16, max=1024, help="Side of the faces in pixels; else as they are."),
    quality: int = typer.Option(95, min=1, max=100, help="JPEG quality of the faces that change."),
    crop: Optional[str] = typer.Option(None, help="Move the faces to this crop: arcface, utkface."),
    margin: float = typer.Option(
        0.0, min=-0.5, max=2, help="How much more than the template to show, as a share of its side."
    ),
):
    """Write a .rec with another label layout, face size or crop, such as one of an older tool."""
    from rec_tools.records.transform import convert as convert_file

    wanted = Crop.named(crop, find_side(file, size), margin) if crop else None
    if margin and not crop:
        raise UsageError("margin: is a part of the crop: say --crop too")
    dropped = convert_file(file, out, labels=labels, to=to, size=size or 0, quality=quality, crop=wanted)
    say(f"{out}: {read_info(out)['count']} records, labels {to}")
    for reason, count in Counter(row.reason for row in dropped).most_common():
        say(f"left out  {count} {reason}: {name_some([row.id for row in dropped if row.reason == reason])}")


def find_side(file: Path, size: Optional[int]) -> int:
    """The side of moved faces: as asked for, else as NAME.json says."""
    if not file.is_file():
        raise AgedgeError(f"{file}: missing")
    side = size or read_info(file).get("size")
    if not isinstance(side, int) or side < 1:
        raise UsageError(f"{file}: nothing says how large its faces are: give --size with --crop")
    return side


def sample(
    file: Path = typer.Argument(..., help="The .rec to read."),
    out: Path = typer.Option(..., help="The .rec to write."),
    faces: int = typer.Option(500, min=1, help="How many."),
    seed: int = typer.Option(0, help="Same seed, same faces."),
    by_age: bool = typer.Option(False, "--by-age", help="As many of each age as there can be."),
    labels: str = LABELS,
):
    """Write some faces of a .rec, chosen at random."""
    from rec_tools.records.transform import sample as sample_file

    count = sample_file(file, out, faces, seed=seed, by_age=by_age, labels=labels)
    say(f"{out}: {faces} of {count} records" + (", even by age" if by_age else ""))

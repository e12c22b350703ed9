"""Commands of `python -m rec_tools` on finished .rec files: inspect, merge, convert, sample."""

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
from agedge.results.kinds import FOLDER, MARKED_IMAGE, SUMMARY
from agedge.results.overwrite import Result, check_results, record_inputs, write_json_result
from rec_tools.records.stored import choose_layout, join_first

LABELS = typer.Option("auto", help="What the numbers of a label are: gender,age; age; age,gender,- and so on.")


def inspect(
    files: List[Path] = typer.Argument(..., help="One or several .rec; copies are also searched across them."),
    labels: str = LABELS,
    json_file: Optional[Path] = typer.Option(
        None, "--json", help="Also write a JSON file, with every group of copies."
    ),
    report: Optional[Path] = typer.Option(None, help="Folder for histogram.png and faces.png."),
    repair: bool = typer.Option(
        False, help="Rebuild a wrong index; rewrite a damaged file with what can be read of it."
    ),
    workers: int = typer.Option(os.cpu_count() or 1, min=1, help="Threads that decode images."),
    verify: bool = typer.Option(False, help="Compare the files with their checksums and list damaged records."),
) -> None:
    """Show what .rec files hold: sizes, labels, ages, bad records, copies; check .idx and .csv."""
    from rec_tools.records.repair import repair as repair_file
    from rec_tools.records.scan import scan_file
    from rec_tools.records.summary import format_summary, summarise_files

    results = [Result("--json", json_file, SUMMARY), Result("--report", report, FOLDER)]
    if report:
        results += [Result("--report", report / name, MARKED_IMAGE) for name in ("histogram.png", "faces.png")]
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
    scans = [scan_file(file, choose_layout(file, labels), workers, progress=True) for file in files]
    summary = summarise_files(scans)
    say(*format_summary(summary).split("\n"))
    if json_file:
        write_json_result(json_file, summary)
    if report:
        from rec_tools.records.plots import draw_faces, plot_ages

        plot_ages(scans, report / "histogram.png")
        draw_faces(scans, report / "faces.png")
    if damages := [one.damage for one in scans if one.damage]:
        raise AgedgeError("; ".join(damages) + "; inspect --repair keeps what can be read")


def verify_files(files: List[Path]) -> None:
    """Compare files with their checksums and print the result. Raises `AgedgeError` that lists the damaged files."""
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
) -> None:
    """Merge several .rec files into one, such as the shards of a pack."""
    from rec_tools.records.transform import merge as merge_files

    count = merge_files(files, out, labels)
    say(f"{out}: {count} records of {len(files)} files")


def convert(
    file: Path = typer.Argument(..., help="The .rec to read."),
    out: Path = typer.Option(..., help="The .rec to write."),
    labels: str = LABELS,
    to: str = typer.Option(LAYOUTS[0], help=f"Label layout to write: {'; '.join(LAYOUTS)}."),
    size: Optional[int] = typer.Option(None, min=16, max=1024, help="Side of the faces in pixels; default: unchanged."),
    quality: int = typer.Option(95, min=1, max=100, help="JPEG quality of faces that are encoded again."),
    crop: Optional[str] = typer.Option(None, help="Move the faces to this template: arcface, utkface."),
    margin: float = typer.Option(0.0, min=-0.5, max=2, help="Margin around the template, as a share of its side."),
) -> None:
    """Convert a .rec to another label layout, face size or crop."""
    from rec_tools.records.transform import convert as convert_file

    target = Crop.named(crop, find_side(file, size), margin) if crop else None
    if margin and not crop:
        raise UsageError("margin: belongs to a crop: give --crop too")
    dropped = convert_file(file, out, labels=labels, to=to, size=size or 0, quality=quality, crop=target)
    say(f"{out}: {read_info(out)['count']} records, labels {to}")
    for reason, count in Counter(row.reason for row in dropped).most_common():
        say(f"left out  {count} {reason}: {join_first([row.id for row in dropped if row.reason == reason])}")


def find_side(file: Path, size: Optional[int]) -> int:
    """Return the side of moved faces in pixels: the given one, else that of NAME.json."""
    if not file.is_file():
        raise AgedgeError(f"{file}: missing")
    side = size or read_info(file).get("size")
    if not isinstance(side, int) or side < 1:
        raise UsageError(f"{file}: the size of its faces is unknown: give --size with --crop")
    return side


def sample(
    file: Path = typer.Argument(..., help="The .rec to read."),
    out: Path = typer.Option(..., help="The .rec to write."),
    faces: int = typer.Option(500, min=1, help="Number of faces."),
    seed: int = typer.Option(0, help="Random seed."),
    by_age: bool = typer.Option(False, "--by-age", help="Spread the faces evenly over ages."),
    labels: str = LABELS,
) -> None:
    """Write a random sample of the faces of a .rec."""
    from rec_tools.records.transform import sample as sample_file

    count = sample_file(file, out, faces, seed=seed, by_age=by_age, labels=labels)
    say(f"{out}: {faces} of {count} records" + (", even by age" if by_age else ""))

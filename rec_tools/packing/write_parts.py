"""Faces that are ready into one .rec a part, with a report of what became of them: what pack and split share."""

import contextlib
import csv
import logging
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, Sequence, Tuple

from agedge.errors import AgedgeError
from agedge.records import RecordWriter, read_info
from agedge.results.overwrite import check_results, part_results, record_results
from agedge.safe_write import PartialFile, rename_synced
from rec_tools.packing.assign_parts import REASONS, Ledger, Plan
from rec_tools.packing.prepare import Prepared
from rec_tools.packing.split import PART
from rec_tools.rows import Dropped

log = logging.getLogger(__name__)


@dataclass
class Report:
    """What became of the rows."""

    parts: Tuple[str, ...] = ()
    copies: dict = field(default_factory=dict)  # see rec_tools.packing.duplicates.summarise
    packed: Counter = field(default_factory=Counter)  # by part
    ways: Counter = field(default_factory=Counter)  # by how the face was cut, if it was
    reasons: Counter = field(default_factory=Counter)  # of rows that were dropped


def note(faces: Iterable) -> Ledger:
    """What a plan has to know of all the faces."""
    ledger = Ledger()
    for face in faces:
        if isinstance(face, Prepared):
            ledger.add(face.digest, face.fingerprint, face.row.label, face.row.identity, face.row.fold)
    return ledger


def write_parts(faces: Iterable, whole: Plan, folder: Path, describe: Callable, suffix: str = "") -> Report:
    """PART.rec for every part, with what lies beside it, and dropped.csv, all in a working folder.

    `faces`: `Prepared`, a row of the plan each, and `Dropped`. `describe` makes of the report what NAME.json
    says. Raises `AgedgeError` where not one face is left.
    """
    report, number, first_ids = Report(whole.parts, whole.copies), 0, {}
    has_copies = set(whole.copy_of[whole.reason > 0].tolist())
    with ExitStack() as stack:
        writers = [stack.enter_context(RecordWriter(folder / f"{part}{suffix}.rec")) for part in whole.parts]
        with PartialFile(folder / "dropped.csv") as file:
            table = csv.writer(file)
            table.writerow(("id", "reason", "detail"))
            for face in faces:
                if isinstance(face, Prepared):
                    part, first = whole.part[number], whole.copy_of[number]
                    if number in has_copies:
                        first_ids[number] = face.row.id
                    if part >= 0:
                        write_face(writers[part], face)
                        report.packed[whole.parts[part]] += 1
                        report.ways.update([face.way] if face.way else ())
                    else:
                        detail = f"of {first_ids[first]}" if first != number else ""
                        face = Dropped(face.row.id, REASONS[whole.reason[number]], detail)
                    number += 1
                if isinstance(face, Dropped):
                    table.writerow((face.id, face.reason, face.detail))
                    report.reasons[face.reason] += 1
        if not report.packed:
            reasons = say(dict(report.reasons.most_common())) or "the data set has no rows"
            where = f" (see {folder / 'dropped.csv'})" if report.reasons else ""
            raise AgedgeError(f"{folder.parent}: nothing packed: {reasons}{where}")
        for writer in writers:
            writer.info = describe(report)
    return report


def write_face(writer: RecordWriter, face: Prepared) -> None:
    row = face.row
    writer.write(
        row.label,
        face.jpeg,
        file=row.id,
        identity=row.identity,
        fold=row.fold,
        race=row.race,
        landmarks=face.landmarks,
    )


def publish(folder: Path, out: Path, parts: Sequence[str], suffix: str = "") -> None:
    """Move the finished files to their names, the .rec last and that of the first part last of all.

    The .rec of packs that they replace go first, so that no pair is of two packs and no part is left over; one of which
    nothing is replaced stays, and is named. A pack that is killed here is moved again by the same command, whose chunks
    are all there.
    """
    replaced = find_replaced(out, parts, suffix)
    results = part_results("--out", out, parts, suffix)
    names = {result.path for result in results}
    check_results(results + sum((record_results("--out", path) for path in replaced if path not in names), []))
    for path in replaced:
        for ext in ("rec", "idx", "csv", "json"):
            path.with_suffix(f".{ext}").unlink(missing_ok=True)
    rename_synced(folder / "dropped.csv", out / f"dropped{suffix}.csv")
    for ext in ("idx", "csv", "json", "rec"):
        for part in reversed(parts):
            rename_synced(folder / f"{part}{suffix}.{ext}", out / f"{part}{suffix}.{ext}")
    ours = {f"{part}{suffix}.rec" for part in parts}
    if others := [] if suffix else sorted(path.name for path in out.glob("*.rec") if path.name not in ours):
        log.warning("%s: also holds %s, of another pack", out, ", ".join(others[:5]) + (", .." if others[5:] else ""))


def find_replaced(out: Path, parts: Iterable[str], suffix: str = "") -> list:
    """The .rec in a folder that have these parts' names, and the other parts of the packs that those belong to."""
    found = {}
    for part in parts:
        path = out / f"{part}{suffix}.rec"
        packed = None
        with contextlib.suppress(AgedgeError):
            packed = read_info(path).get("packed")
        siblings = packed if isinstance(packed, dict) and part in packed else ()
        names = (part, *filter(PART.fullmatch, siblings))  # a name with a path in it is not one of pack's
        found.update((out / f"{name}{suffix}.rec", None) for name in names)
    return [path for path in found if path.is_file()]


def say(reasons: dict) -> str:
    """Reasons with their counts, on one line."""
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.items())


def say_copies(copies: dict) -> list:
    """What the report says of copies, a line for identical files and one for images that look the same."""
    lines = []
    for kind, word in (("identical", "identical files"), ("near", "images that look the same")):
        found = copies.get(kind)
        if found and found["groups"]:
            several = "s" if found["groups"] > 1 else ""
            lines.append(
                f"{found['groups']} group{several} of {word} ({found['too_many']} rows too many; "
                f"ages differ in {found['age_conflicts']}, genders in {found['gender_conflicts']}; "
                f"{found['across_parts']} across parts)"
            )
    return lines

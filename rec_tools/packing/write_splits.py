"""Write prepared faces to one .rec per split and count what happened to every row. Used by pack and split."""

import contextlib
import csv
import logging
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple, Union

from agedge.errors import AgedgeError
from agedge.records import RecordWriter, read_info
from agedge.results.overwrite import check_results, record_results, split_results
from agedge.safe_write import PartialFile, rename_synced
from rec_tools.packing.assign_splits import REASONS, Assignment, FaceMetadata
from rec_tools.packing.prepare import Prepared
from rec_tools.packing.split import SPLIT_NAME
from rec_tools.rows import Dropped

log = logging.getLogger(__name__)


@dataclass
class PackReport:
    """What happened to the rows.

    `packed`: faces by split. `methods`: packed faces by how they were cropped. `reasons`: dropped rows by reason.
    `copies`: see `rec_tools.packing.duplicates.summarise_duplicates`.
    """

    splits: Tuple[str, ...] = ()
    copies: Dict[str, Any] = field(default_factory=dict)
    packed: Counter = field(default_factory=Counter)
    methods: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)


def collect_metadata(faces: Iterable[Union[Prepared, Dropped]]) -> FaceMetadata:
    """Return what `assign_splits` needs to know of all the faces."""
    metadata = FaceMetadata()
    for face in faces:
        if isinstance(face, Prepared):
            metadata.add(face.digest, face.fingerprint, face.row.label, face.row.identity, face.row.fold)
    return metadata


def write_splits(
    faces: Iterable[Union[Prepared, Dropped]],
    assignment: Assignment,
    folder: Path,
    describe: Callable[[PackReport], Dict[str, Any]],
    suffix: str = "",
) -> PackReport:
    """Write SPLIT.rec, .idx, .csv and .json for every split, and dropped.csv, to a working folder.

    `faces`: a `Prepared` for each row of the assignment, and `Dropped`. `describe` makes the content of NAME.json from
    the report. Raises `AgedgeError` if no face is left.
    """
    report, number, first_ids = PackReport(assignment.splits, assignment.copies), 0, {}
    has_copies = set(assignment.copy_of[assignment.reason > 0].tolist())
    with ExitStack() as stack:
        writers = [stack.enter_context(RecordWriter(folder / f"{split}{suffix}.rec")) for split in assignment.splits]
        with PartialFile(folder / "dropped.csv") as file:
            table = csv.writer(file)
            table.writerow(("id", "reason", "detail"))
            for face in faces:
                if isinstance(face, Prepared):
                    split, first = assignment.split[number], assignment.copy_of[number]
                    if number in has_copies:
                        first_ids[number] = face.row.id
                    if split >= 0:
                        write_face(writers[split], face)
                        report.packed[assignment.splits[split]] += 1
                        report.methods.update([face.method] if face.method else ())
                    else:
                        detail = f"of {first_ids[first]}" if first != number else ""
                        face = Dropped(face.row.id, REASONS[assignment.reason[number]], detail)
                    number += 1
                if isinstance(face, Dropped):
                    table.writerow((face.id, face.reason, face.detail))
                    report.reasons[face.reason] += 1
        if not report.packed:
            reasons = format_counts(report.reasons) or "the data set has no rows"
            where = f" (see {folder / 'dropped.csv'})" if report.reasons else ""
            raise AgedgeError(f"{folder.parent}: nothing packed: {reasons}{where}")
        for writer in writers:
            writer.info = describe(report)
    return report


def write_face(writer: RecordWriter, face: Prepared) -> None:
    """Append a face and its row. Raises `OSError` that names the file."""
    row = face.row
    writer.write(
        row.label,
        face.jpeg,
        file=row.id,
        identity=row.identity or "",
        fold="" if row.fold is None else row.fold,
        race=row.race or "",
        landmarks=face.landmarks,
    )


def publish(folder: Path, out: Path, splits: Sequence[str], suffix: str = "") -> None:
    """Move the finished files to `out`, each .rec last, and that of the first split last of all.

    Earlier packs that share a split with this one are removed first, so no pair of files is of two packs. A .rec of
    another pack stays, and is named in a warning. If the process is killed here, the same command moves the files
    again: its chunks are all complete.
    """
    replaced = find_replaced(out, splits, suffix)
    results = split_results("--out", out, splits, suffix)
    names = {result.path for result in results}
    check_results(results + sum((record_results("--out", path) for path in replaced if path not in names), []))
    for path in replaced:
        for ext in ("rec", "idx", "csv", "json"):
            path.with_suffix(f".{ext}").unlink(missing_ok=True)
    rename_synced(folder / "dropped.csv", out / f"dropped{suffix}.csv")
    for ext in ("idx", "csv", "json", "rec"):
        for split in reversed(splits):
            rename_synced(folder / f"{split}{suffix}.{ext}", out / f"{split}{suffix}.{ext}")
    ours = {f"{split}{suffix}.rec" for split in splits}
    if others := [] if suffix else sorted(path.name for path in out.glob("*.rec") if path.name not in ours):
        log.warning("%s: also holds %s, of another pack", out, ", ".join(others[:5]) + (", .." if others[5:] else ""))


def find_replaced(out: Path, splits: Iterable[str], suffix: str = "") -> List[Path]:
    """Return the .rec files in a folder that these splits replace, with the other splits of the same packs."""
    found = {}
    for split in splits:
        path = out / f"{split}{suffix}.rec"
        packed = None
        with contextlib.suppress(AgedgeError):
            packed = read_info(path).get("packed")
        siblings = packed if isinstance(packed, dict) and split in packed else ()
        names = (split, *filter(SPLIT_NAME.fullmatch, siblings))  # a name with a path in it is not one of pack's
        found.update((out / f"{name}{suffix}.rec", None) for name in names)
    return [path for path in found if path.is_file()]


def format_counts(counts: Counter) -> str:
    """Return what was counted on one line, the most frequent first: "no face (3), second face (1)"."""
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common())


def format_duplicates(copies: Dict[str, Any]) -> List[str]:
    """Return the report's lines on copies: one for identical files and one for images that look the same."""
    lines = []
    for kind, word in (("identical", "identical files"), ("near", "images that look the same")):
        found = copies.get(kind)
        if found and found["groups"]:
            several = "s" if found["groups"] > 1 else ""
            lines.append(
                f"{found['groups']} group{several} of {word} ({found['too_many']} rows too many; "
                f"ages differ in {found['age_conflicts']}, genders in {found['gender_conflicts']}; "
                f"{found['across_parts']} across splits)"
            )
    return lines

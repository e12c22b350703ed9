"""Summarise scans of .rec files, as an object ready for JSON and as text.

The keys of a file: `file`, `records`, `bytes`, `labels` (the layout), `images` {count, different_sizes, sizes [{width,
height, count}], shorter_side {min, median, max}}, `gender` {female, male, unknown}, `age` {exact, interval, unknown,
min, max}, `intervals` [{age_min, age_max, count}], `histogram` [{age, female, male, unknown}], `bad` {reason: {count,
first}}, `index` and `table` ("right", "missing" or what is wrong), `damage` (null or the error), `people`, and from
NAME.json `source`, `terms`, `crop`. Beside `files` there are `copies`, as `summarise_duplicates` returns them, with
`groups` [{identical, conflicting_labels, records [{file, record, gender, age_min, age_max}]}], and
`people_in_several_files` {count, first}.
"""

from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np

from agedge.cli import printable
from agedge.crop import TEMPLATES, Crop
from agedge.errors import AgedgeError
from agedge.labels import FEMALE, MALE, UNKNOWN
from rec_tools.packing.duplicates import DuplicateGroups, find_duplicates, labels_conflict, summarise_duplicates
from rec_tools.records.scan import FileScan

GENDERS = {FEMALE: "female", MALE: "male", UNKNOWN: "unknown"}
DECADES = 12  # bands of ten years; the last ends at 120
MOST_SIZES, MOST_GROUPS, MOST_NUMBERS = 20, 1000, 10  # sizes, groups of copies and records that are listed


def summarise_files(scans: Sequence[FileScan]) -> Dict[str, Any]:
    """Return the content of the `--json` file; copies are searched across all files."""
    people = Counter(person for scan in scans for person in scan.people)
    shared = sorted(person for person, files in people.items() if files > 1)
    return {
        "files": [summarise_file(scan) for scan in scans],
        "copies": summarise_all_duplicates(scans),
        "people_in_several_files": {"count": len(shared), "first": shared[:MOST_NUMBERS]},
    }


def summarise_file(scan: FileScan) -> Dict[str, Any]:
    """Return the keys of one file: see the top of this module."""
    labels = scan.labels
    known = labels[:, 1] >= 0
    exact = known & (labels[:, 1] == labels[:, 2])
    wide = Counter(map(tuple, labels[known & ~exact, 1:].tolist()))
    sides = np.repeat([min(size) for size in scan.sizes], list(scan.sizes.values()))
    return {
        "file": str(scan.path),
        "records": len(labels),
        "bytes": scan.size,
        "labels": scan.layout,
        "images": {
            "count": len(scan.numbers),
            "sizes": [
                {"width": width, "height": height, "count": count}
                for (width, height), count in scan.sizes.most_common(MOST_SIZES)
            ],
            "different_sizes": len(scan.sizes),
            "shorter_side": {
                name: float(of(sides)) if len(sides) else None
                for name, of in (("min", np.min), ("median", np.median), ("max", np.max))
            },
        },
        "gender": {name: int((labels[:, 0] == code).sum()) for code, name in GENDERS.items()},
        "age": {
            "exact": int(exact.sum()),
            "interval": int((known & ~exact).sum()),
            "unknown": int((~known).sum()),
            "min": float(labels[known, 1].min()) if known.any() else None,
            "max": float(labels[known, 2].max()) if known.any() else None,
        },
        "intervals": [{"age_min": low, "age_max": high, "count": wide[low, high]} for low, high in sorted(wide)],
        "histogram": list(count_ages(labels)),
        "bad": {
            reason: {"count": len(numbers), "first": numbers[:MOST_NUMBERS]} for reason, numbers in scan.bad.items()
        },
        "index": scan.index or "right",
        "table": scan.table or "right",
        "damage": scan.damage or None,
        "people": len(scan.people),
        **{key: scan.info.get(key) for key in ("source", "terms", "crop")},
    }


def count_ages(labels: np.ndarray) -> Iterator[Dict[str, Any]]:
    """Count faces by age and gender.

    Yields a row for every ten years up to the oldest face, then one for every label interval that spans several rows.
    """
    low, high = (np.minimum(labels[:, column] // 10, DECADES - 1) for column in (1, 2))
    unknown, inside = labels[:, 1] < 0, (low == high) & (labels[:, 1] >= 0)
    for decade in range(int(low[inside].max(initial=-1)) + 1):
        last = 120 if decade == DECADES - 1 else 10 * decade + 9
        yield _count_genders(f"{10 * decade}-{last}", labels[inside & (low == decade)])
    across = labels[~inside & ~unknown]
    for first, last in sorted(set(map(tuple, across[:, 1:].tolist()))):
        yield _count_genders(f"{first:g}-{last:g}", across[(across[:, 1:] == (first, last)).all(axis=1)])
    if unknown.any():
        yield _count_genders("unknown", labels[unknown])


def _count_genders(age: str, labels: np.ndarray) -> dict:
    return {"age": age, **{name: int((labels[:, 0] == code).sum()) for code, name in GENDERS.items()}}


def summarise_all_duplicates(scans: Sequence[FileScan]) -> Dict[str, Any]:
    """Return the counts of copies within and across files, and the first `MOST_GROUPS` groups."""
    files = np.repeat(range(len(scans)), [len(scan.numbers) for scan in scans])
    numbers = np.concatenate([scan.numbers for scan in scans])
    labels = np.concatenate([scan.labels[scan.numbers] for scan in scans])
    digests = np.concatenate([scan.digests for scan in scans])
    copies = find_duplicates(digests, np.concatenate([scan.fingerprints for scan in scans]))
    groups = [
        {
            "identical": len(set(copies.identical[rows])) == 1,
            "conflicting_labels": labels_conflict(labels[rows]),
            "records": [
                {
                    "file": str(scans[files[row]].path),
                    "record": int(numbers[row]),
                    **dict(zip(("gender", "age_min", "age_max"), labels[row].tolist())),
                }
                for row in rows
            ],
        }
        for rows in _find_groups(copies)[:MOST_GROUPS]
    ]
    return {**summarise_duplicates(copies, labels, files), "groups": groups}


def _find_groups(copies: DuplicateGroups) -> List[np.ndarray]:
    """Return the rows of each group of more than one, sorted by the first of them."""
    order = np.argsort(copies.near, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(copies.near[order])) + 1)
    return sorted((rows for rows in groups if len(rows) > 1), key=lambda rows: rows[0])


def format_summary(summary: Dict[str, Any]) -> str:
    """Return the result of `summarise_files` as text."""
    blocks = [format_file(file) for file in summary["files"]] + [format_all_duplicates(summary)]
    return "\n\n".join(blocks)


def format_file(file: Dict[str, Any]) -> str:
    """Return the summary of one file as text."""
    ages, bad = file["age"], file["bad"]
    span = f" ({ages['min']:g} to {ages['max']:g})" if ages["min"] is not None else ""
    groups = ", ".join(f"{one['age_min']:g}-{one['age_max']:g} ({one['count']})" for one in file["intervals"])
    lines = [
        ("records", f"{file['records']}, {file['bytes'] / 1e6:.1f} MB"),
        ("images", _format_sizes(file["images"])),
        ("labels", file["labels"]),
        ("gender", ", ".join(f"{count} {name}" for name, count in file["gender"].items())),
        ("age", f"{ages['exact']} exact, {ages['interval']} groups, {ages['unknown']} unknown{span}"),
        ("groups", groups),
        ("bad", "; ".join(_format_bad(reason, **found) for reason, found in bad.items()) or "none"),
        ("index", file["index"]),
        ("table", file["table"] + (f", {file['people']} people" if file["people"] else "")),
        ("source", file["source"]),
        ("crop", name_crop(file["crop"])),
        ("damage", file["damage"]),
    ]
    text = [printable(file["file"])] + [printable(f"  {name:<9} {value}") for name, value in lines if value]
    return "\n".join(text + ["", *_format_histogram(file["histogram"])])


def _format_sizes(images: dict) -> str:
    sizes, side = images["sizes"], images["shorter_side"]
    if images["different_sizes"] > 5:
        more = f"shorter side {side['min']:g} to {side['max']:g}, median {side['median']:g}"
        return f"{images['different_sizes']} sizes, {more}"
    return ", ".join(f"{size['width']}x{size['height']} ({size['count']})" for size in sizes) or "none"


def _format_bad(reason: str, count: int, first: list) -> str:
    return f"{count} {reason}: {', '.join(map(str, first))}" + (", .." if count > len(first) else "")


def _format_histogram(rows: list) -> List[str]:
    most = max((sum(row[name] for name in GENDERS.values()) for row in rows), default=0)
    lines = [f"  {'age':<9}" + "".join(f"{name:>9}" for name in GENDERS.values())]
    for row in rows:
        counts = [row[name] for name in GENDERS.values()]
        bar = "#" * -(-40 * sum(counts) // max(1, most))
        lines.append(f"  {row['age']:<9}" + "".join(f"{count:>9}" for count in counts) + f"  {bar}".rstrip())
    return lines


def name_crop(crop: Optional[Dict[str, Any]]) -> str:
    """Return the name of a crop's template, or the positions of its eyes for another crop."""
    if not crop:
        return "not known"
    try:
        known = Crop.from_json(crop)
    except AgedgeError:
        return "not understood"
    for name in TEMPLATES:
        if Crop.named(name, known.size).same_as(known):
            return name
    left, right = known.points[0] / known.size, known.points[1] / known.size
    return f"its own: eyes at {left[0]:.2f},{left[1]:.2f} and {right[0]:.2f},{right[1]:.2f} of the side"


def format_all_duplicates(summary: Dict[str, Any]) -> str:
    """Return the counts of copies, the first groups, and people in several files as text."""
    copies, several = summary["copies"], len(summary["files"]) > 1
    lines = ["copies"]
    for name, kind in (("same bytes", "identical"), ("same photo", "near")):
        count = copies[kind]
        text = f"{count['groups']} groups, {count['too_many']} records too many"
        text += f"; ages differ in {count['age_conflicts']}, genders in {count['gender_conflicts']}"
        lines.append(f"  {name}  {text}" + (f"; {count['across_parts']} lie in several files" if several else ""))
    shown = [one for one in copies["groups"] if not several or _is_across(one)]
    for group in shown[:MOST_NUMBERS]:
        lines.append("    " + " = ".join(_format_record(record, several) for record in group["records"][:6]))
    if len(shown) > MOST_NUMBERS:
        lines.append("    ..")
    people = summary["people_in_several_files"]
    if people["count"]:
        first = printable(", ".join(people["first"])) + (", .." if people["count"] > len(people["first"]) else "")
        lines.append(f"  people      {people['count']} are in several files: {first}")
    return "\n".join(lines)


def _is_across(group: dict) -> bool:
    return len({record["file"] for record in group["records"]}) > 1


def _format_record(record: dict, with_file: bool) -> str:
    age, gender = format_age(record["age_min"], record["age_max"]), GENDERS[int(record["gender"])]
    return (f"{printable(record['file'])} " if with_file else "") + f"{record['record']} ({gender}, {age})"


def format_age(low: float, high: float) -> str:
    """Return an age interval as short text: "34", "20-29", "?"."""
    return "?" if low < 0 else f"{low:g}" if low == high else f"{low:g}-{high:g}"

"""Pack a data set: rows -> worker processes -> one .rec a part of the split, and a report of what was dropped."""

import csv
import itertools
import logging
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Iterable, Iterator

from tqdm import tqdm

from agedge import __version__
from agedge.errors import AgedgeError
from agedge.labels import Label
from agedge.records import RecordWriter
from rec_tools.prepare import Preparation, Prepared, prepare_all, start_worker
from rec_tools.rows import Dropped
from rec_tools.split import Split

log = logging.getLogger(__name__)

CHUNK = 32  # rows a task: long enough to hide the queue, short enough to keep results few


@dataclass
class Image:
    """An image file that was packed, once or in copies."""

    part: str
    label: Label
    count: int = 0
    labels_differ: bool = False


@dataclass
class Report:
    """What became of the rows."""

    packed: Counter = field(default_factory=Counter)  # by part
    ways: Counter = field(default_factory=Counter)  # by how the face was aligned
    dropped: list = field(default_factory=list)
    images: dict = field(default_factory=dict)  # by checksum: what became of the first file with it

    def reasons(self) -> dict:
        return dict(Counter(row.reason for row in self.dropped).most_common())

    def copies(self) -> dict:
        """Byte-identical images: groups, the rows beyond the first of each, and groups whose labels disagree."""
        groups = [image for image in self.images.values() if image.count > 1]
        return {
            "groups": len(groups),
            "rows": sum(image.count for image in groups) - len(groups),
            "groups_with_different_labels": sum(image.labels_differ for image in groups),
        }

    def place(self, face: Prepared, split: Split) -> str:
        """The part that a face goes to, noted; "" where a copy of its image is in another part than its person."""
        part = split.part_of(face.row.identity or face.digest)
        image = self.images.setdefault(face.digest, Image(part, face.row.label))
        if image.part != part:
            return ""
        image.count += 1
        image.labels_differ |= image.label != face.row.label
        self.packed[part] += 1
        self.ways[face.way] += 1
        return part


def pack(
    rows: Iterable,
    out: Path,
    split: Split,
    preparation: Preparation,
    *,
    source: str,
    terms: str,
    workers: int = 0,
    progress: bool = False,
) -> Report:
    """Write `out/PART.rec` (.idx, .csv, .json) for every part, and `out/dropped.csv`.

    The output depends on the rows and the seed only, not on the number of workers; 0 does the work in this process.
    Raises `AgedgeError` where not one row could be packed.
    """
    rows = list(rows)
    report = Report(dropped=[row for row in rows if isinstance(row, Dropped)])
    todo = [row for row in rows if not isinstance(row, Dropped)]
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writers = {part: stack.enter_context(RecordWriter(out / f"{part}.rec")) for part in split.shares}
        results = prepare_in_order(todo, preparation, workers)
        # None: a bar where there is a terminal
        for result in tqdm(results, "packing", len(todo), unit=" faces", disable=None if progress else True):
            if isinstance(result, Dropped):
                report.dropped.append(result)
                continue
            if part := report.place(result, split):
                write(writers[part], result)
            else:
                report.dropped.append(Dropped(result.row.id, "same image as another person in another part"))
        if not report.packed:
            raise AgedgeError(f"{out}: nothing packed: " + (say(report.reasons()) or "the data set has no rows"))
        for writer in writers.values():
            writer.info = describe(report, preparation, split, source, terms)
    write_dropped(report.dropped, out / "dropped.csv")
    return report


def prepare_in_order(rows: list, preparation: Preparation, workers: int) -> Iterator:
    """`Prepared` or `Dropped` for every row, in the order of the rows; at most a few chunks ahead of the reader."""
    chunks = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    if workers == 0:
        yield from itertools.chain.from_iterable(prepare_all(chunk, preparation) for chunk in chunks)
        return
    # spawn: a process that has loaded MXNet must not fork
    with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
        waiting = deque(pool.submit(prepare_all, chunk, preparation) for chunk in itertools.islice(chunks, 4 * workers))
        try:
            while waiting:
                yield from waiting.popleft().result()
                waiting.extend(pool.submit(prepare_all, chunk, preparation) for chunk in itertools.islice(chunks, 1))
        except BrokenProcessPool:
            raise AgedgeError("a worker process died (out of memory?); try fewer --workers") from None
        finally:
            for task in waiting:
                task.cancel()


def write(writer: RecordWriter, prepared: Prepared) -> None:
    row = prepared.row
    writer.write(row.label, prepared.jpeg, file=row.id, identity=row.identity, fold=row.fold, race=row.race)


def describe(report: Report, preparation: Preparation, split: Split, source: str, terms: str) -> dict:
    """What NAME.json says of a pack."""
    crop = preparation.set_crop if preparation.align == "none" else preparation.crop
    return {
        "source": source,
        "terms": terms,
        "size": preparation.size,
        "align": preparation.align,
        "crop": crop.to_json() if crop else None,
        "split": {"shares": split.shares, "seed": split.seed},
        "packed": dict(report.packed),
        "aligned_by": dict(report.ways),
        "dropped": report.reasons(),
        "copies": report.copies(),
        "tool": f"agedge {__version__}",
    }


def write_dropped(dropped: list, path: Path) -> None:
    """Every dropped row with its reason."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file)
        table.writerow(("id", "reason", "detail"))
        table.writerows((row.id, row.reason, row.detail) for row in dropped)


def say(reasons: dict) -> str:
    """Reasons with their counts, on one line."""
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.items())

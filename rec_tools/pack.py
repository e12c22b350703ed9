"""Pack a data set: rows -> worker processes -> chunks on disk -> one .rec a part, and a report of what was dropped.

The chunks stay until the pack is finished, so that one that was killed goes on where it stopped; the finished files
appear under their names at the very end, one after the other, the .rec last.
"""

import hashlib
import itertools
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Callable, Iterable, Iterator, Tuple

from tqdm import tqdm

from agedge import __version__
from agedge.errors import AgedgeError, UsageError
from agedge.labels import Label
from agedge.workers import start_worker
from rec_tools.cut import BOX, CORNERS
from rec_tools.parts import plan
from rec_tools.preparation import Preparation
from rec_tools.rows import Dropped, Row
from rec_tools.split import Split
from rec_tools.spool import prepare_chunk, read_chunks, working_folder
from rec_tools.write import Report, note, publish, write_parts

CHUNK = 128  # rows a task: enough for a detector's batches, few enough to lose when killed


def pack(
    rows: Iterable,
    out: Path,
    split: Split,
    preparation: Preparation,
    *,
    source: str,
    terms: str,
    workers: int = 0,
    drop: Tuple[str, ...] = (),
    suffix: str = "",
    progress: bool = False,
) -> Report:
    """Write `out/PART.rec` (.idx, .csv, .json) for every part, and `out/dropped.csv`.

    `drop`: "duplicates", "conflicts"; `suffix` follows each part's name. The output depends on the rows and the seed
    only, not on the number of workers; 0 does the work in this process. Raises `AgedgeError` where not one row could be
    packed; what was there before stays then.
    """
    preparation = replace(preparation, fingerprints=bool(drop or split.shares or split.one_person_out))
    with working_folder(out / f".packing{suffix}") as folder:
        chunks = []
        # None: a bar where there is a terminal
        with tqdm(desc="packing", unit=" faces", disable=None if progress else True) as bar:
            work = chunks_of(sift(rows, keep_conflicts="conflicts" in drop))
            for path, length in prepare_in_order(work, preparation, folder, workers):
                chunks.append(path)
                bar.update(length)
        whole = plan(note(read_chunks(chunks, with_jpegs=False)), split, drop)
        about = {"source": source, "terms": terms, "split": whole.by}
        report = write_parts(
            read_chunks(chunks), whole, folder, lambda report: {**about, **describe(report, preparation)}, suffix
        )
        publish(folder, out, report.parts, suffix)
    return report


def sift(rows: Iterable, keep_conflicts: bool = False) -> Iterator:
    """Yield the rows; those whose id came before, or that say nothing of age and gender, are `Dropped`.

    With `keep_conflicts`, a row whose id came before with another label goes on under another id: the plan, which drops
    images with different labels, must see both.
    """
    seen = {}
    for row in rows:
        if isinstance(row, Row):
            key, label = (_digest(text) for text in (row.id, repr(row.label)))
            if row.label == Label():
                row = Dropped(row.id, "neither age nor gender known")
            elif key in seen and label in seen[key]:
                row = Dropped(row.id, "listed twice")
            elif key in seen:
                seen[key] += label
                again = f"{row.id} (listed again, {len(seen[key]) // len(label)})"
                row = replace(row, id=again) if keep_conflicts else Dropped(row.id, "listed twice with other labels")
            else:
                seen[key] = label
        yield row


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()


def take_shard(read: Callable[[], Iterable], index: int, count: int) -> Iterator:
    """The rows of one of `count` shards, whole chunks that follow one another; together they are all, in order.

    Raises `UsageError` where there are more shards than chunks.
    """
    chunks = -(-sum(1 for _ in read()) // CHUNK)
    if chunks < count:
        raise UsageError(f"shard {index}/{count}: the set has rows for {chunks} shards, of {CHUNK} each")
    first, last = (CHUNK * (chunks * shard // count) for shard in (index, index + 1))
    return itertools.islice(sift(read()), first, last)


def chunks_of(rows: Iterable) -> Iterator[list]:
    rows = iter(rows)
    while chunk := list(itertools.islice(rows, CHUNK)):
        yield chunk


def prepare_in_order(chunks: Iterable, preparation: Preparation, folder: Path, workers: int) -> Iterator:
    """(file, rows in it) of every chunk, in order; at most a few chunks ahead of the reader."""
    work = ((number, chunk, preparation, folder) for number, chunk in enumerate(chunks))
    if workers == 0:
        for task in work:
            yield prepare_chunk(*task), len(task[1])
        return
    # spawn: a process that has loaded MXNet must not fork
    with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
        coming = ((pool.submit(prepare_chunk, *task), len(task[1])) for task in work)
        waiting = deque()
        try:
            waiting.extend(itertools.islice(coming, 4 * workers))
            while waiting:
                task, length = waiting.popleft()
                yield task.result(), length
                waiting.extend(itertools.islice(coming, 1))
        except BrokenProcessPool:
            raise AgedgeError("a worker process died (out of memory?); try fewer --workers") from None
        finally:
            for task, _ in waiting:
                task.cancel()


def describe(report: Report, preparation: Preparation) -> dict:
    """What NAME.json says of a pack."""
    crop = preparation.set_crop if preparation.align == "none" else preparation.crop
    if {BOX, CORNERS} & set(report.ways):
        crop = None  # not one for all
    return {
        "size": preparation.size,
        "align": preparation.align,
        "crop": crop.to_json() if crop else None,
        "packed": dict(report.packed),
        "cut_by": dict(report.ways.most_common()),
        "dropped": dict(report.reasons.most_common()),
        "copies": report.copies,
        "tool": f"agedge {__version__}",
    }

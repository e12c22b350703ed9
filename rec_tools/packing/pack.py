"""Pack a data set: rows -> worker processes -> chunks on disk -> one .rec a part, and a report of what was dropped.

The chunks stay until the pack is finished, so that one that was killed goes on where it stopped; the finished files
appear under their names at the very end, one after the other, the .rec last.
"""

import hashlib
import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterable, Iterator, Tuple

from tqdm import tqdm

from agedge import __version__
from agedge.errors import UsageError
from agedge.labels import Label
from rec_tools.packing.assign_splits import plan
from rec_tools.packing.chunks import chunk_file, prepare_chunk, prepare_file, read_chunks, working_folder, write_chunk
from rec_tools.packing.crop_faces import BOX, CORNERS
from rec_tools.packing.options import Preparation
from rec_tools.packing.prepare import prepare_all
from rec_tools.packing.split import Split
from rec_tools.packing.write_splits import Report, note, publish, write_parts
from rec_tools.rows import Dropped, Row
from rec_tools.worker_pool import WorkerDeathError, WorkerPool

log = logging.getLogger(__name__)

ENDS_DECODER = "ends the decoder"
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
    only, not on the number of workers. An image that ends its worker is dropped; 0 workers do the work in this process,
    which such an image ends. Raises `AgedgeError` where not one row could be
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
    with WorkerPool(workers) as pool:
        for task in pool.submit_ahead(prepare_chunk, work):
            try:
                path = pool.wait(task)
            except WorkerDeathError as died:
                path = chunk_file(*task.arguments)
                prepare_row_by_row(pool, path, task.arguments[1], preparation, died)
            yield path, len(task.arguments[1])


def prepare_row_by_row(
    pool: WorkerPool, path: Path, rows: list, preparation: Preparation, died: WorkerDeathError
) -> None:
    """Write a chunk that a worker does not survive, without the images that end it on their own.

    The others are prepared together once more, as they would have been without those; or, where only several of them
    together end a worker, as they were on their own.
    """
    log.info("%s to %s: a worker %s; going on image by image", rows[0].id, rows[-1].id, died)
    kept, results = [], []
    for row in rows:
        try:
            results += pool.run(prepare_all, [row], preparation)
            kept.append(row)
        except WorkerDeathError as end:
            log.warning("%s: %s: %s", row.id, ENDS_DECODER, end)
            kept.append(Dropped(row.id, ENDS_DECODER, str(end)))
            results.append(kept[-1])
    if kept != rows:
        try:
            pool.run(prepare_file, path, kept, preparation)
            return
        except WorkerDeathError:
            pass
    write_chunk(path, results)


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

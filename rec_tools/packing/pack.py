"""Pack a data set: rows -> worker processes -> chunks on disk -> one .rec per split, and a table of dropped rows.

The chunks stay on disk until the pack is finished, so that a killed pack resumes where it stopped. The finished files
get their names at the very end, one after the other, the .rec last.
"""

import hashlib
import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple, Union

from tqdm import tqdm

from agedge import __version__
from agedge.errors import UsageError
from agedge.labels import Label
from rec_tools.packing.assign_splits import assign_splits
from rec_tools.packing.chunks import chunk_file, prepare_chunk, prepare_file, read_chunks, working_folder, write_chunk
from rec_tools.packing.crop_faces import BOX, CORNERS
from rec_tools.packing.options import Preparation
from rec_tools.packing.prepare import prepare_all
from rec_tools.packing.split import SplitScheme
from rec_tools.packing.write_splits import PackReport, collect_metadata, publish, write_splits
from rec_tools.rows import Dropped, Row
from rec_tools.worker_pool import WorkerDeathError, WorkerPool

log = logging.getLogger(__name__)

AnyRow = Union[Row, Dropped]
Chunk = List[AnyRow]

ENDS_DECODER = "ends the decoder"
CHUNK = 128  # rows per task: enough for a detector's batches, and few enough to repeat after a kill


def pack(
    rows: Iterable[AnyRow],
    out: Path,
    split: SplitScheme,
    preparation: Preparation,
    *,
    source: str,
    terms: str,
    workers: int = 0,
    drop: Tuple[str, ...] = (),
    suffix: str = "",
    progress: bool = False,
) -> PackReport:
    """Write `out/SPLIT.rec` (.idx, .csv, .json) for every split, and `out/dropped.csv`.

    `drop`: "duplicates", "conflicts". `suffix` follows each split's name. The output depends on the rows and the
    seed, not on the number of workers. An image that crashes its worker is dropped; with 0 workers the images are read
    in this process, which such an image would end. Raises `AgedgeError` if no row could be packed; the files of an
    earlier pack are then unchanged.
    """
    preparation = replace(preparation, fingerprints=bool(drop or split.shares or split.one_person_out))
    with working_folder(out / f".packing{suffix}") as folder:
        chunks = []
        # None: show a bar if the output is a terminal
        with tqdm(desc="packing", unit=" faces", disable=None if progress else True) as bar:
            work = chunks_of(filter_rows(rows, keep_conflicts="conflicts" in drop))
            for path, length in prepare_in_order(work, preparation, folder, workers):
                chunks.append(path)
                bar.update(length)
        assignment = assign_splits(collect_metadata(read_chunks(chunks, with_jpegs=False)), split, drop)
        info = {"source": source, "terms": terms, "split": assignment.by}
        report = write_splits(
            read_chunks(chunks), assignment, folder, lambda report: {**info, **describe(report, preparation)}, suffix
        )
        publish(folder, out, report.splits, suffix)
    return report


def filter_rows(rows: Iterable[AnyRow], keep_conflicts: bool = False) -> Iterator[AnyRow]:
    """Yield the rows; rows with a repeated id, or with neither age nor gender, become `Dropped`.

    With `keep_conflicts`, a repeated id with another label is kept under a new id: `assign_splits`, which drops images
    with conflicting labels, must see both.
    """
    seen: Dict[bytes, bytes] = {}
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


def take_shard(read: Callable[[], Iterable[AnyRow]], index: int, count: int) -> Iterator[AnyRow]:
    """Return the rows of one of `count` shards: consecutive whole chunks. All shards in order hold all rows.

    Raises `UsageError` if there are more shards than chunks.
    """
    chunks = -(-sum(1 for _ in read()) // CHUNK)
    if chunks < count:
        raise UsageError(f"shard {index}/{count}: the data set has rows for {chunks} shards, of {CHUNK} each")
    first, last = (CHUNK * (chunks * shard // count) for shard in (index, index + 1))
    return itertools.islice(filter_rows(read()), first, last)


def chunks_of(rows: Iterable[AnyRow]) -> Iterator[Chunk]:
    """Yield lists of `CHUNK` rows, the last one shorter."""
    rows = iter(rows)
    while chunk := list(itertools.islice(rows, CHUNK)):
        yield chunk


def prepare_in_order(
    chunks: Iterable[Chunk], preparation: Preparation, folder: Path, workers: int
) -> Iterator[Tuple[Path, int]]:
    """Yield (file, number of rows) for every chunk, in order; workers run at most a few chunks ahead."""
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
    pool: WorkerPool, path: Path, rows: Chunk, preparation: Preparation, died: WorkerDeathError
) -> None:
    """Write a chunk whose worker died, dropping the images that crash a worker on their own.

    The other images are prepared together once more, so that the result is as if the bad ones had not been there. If
    only several images together crash a worker, the results of preparing them one by one are used.
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


def describe(report: PackReport, preparation: Preparation) -> Dict[str, Any]:
    """Return what NAME.json records of a pack."""
    crop = preparation.set_crop if preparation.align == "none" else preparation.crop
    if {BOX, CORNERS} & set(report.methods):
        crop = None  # each face has its own
    return {
        "size": preparation.size,
        "align": preparation.align,
        "crop": crop.to_json() if crop else None,
        "packed": dict(report.packed),
        "cut_by": dict(report.methods.most_common()),
        "dropped": dict(report.reasons.most_common()),
        "copies": report.copies,
        "tool": f"agedge {__version__}",
    }

"""Compare Cython with NumPy on boxes: python -m benchmarks.boxes [--repeats 30]

Each function of `agedge.faces.boxes`, and the decoding of ESSH's maps, with 100, 1,000 and 5,000 boxes, on one thread;
medians. Boxes lie scattered, so that nearly all are kept, or in crowds about twenty faces, as a detector proposes them.
Run it with nothing else running.
"""

import time
from statistics import median
from typing import Callable, Iterator

import numpy as np
import typer

from agedge.cli import run_command
from agedge.errors import AgedgeError
from agedge.faces import boxes
from agedge.faces.essh import anchors

COUNTS = (100, 1000, 5000)
FACES = 20  # that boxes crowd about; images of the training scenes have fewer
SIDE = 1024  # of the image about whose faces they crowd


def main(repeats: int = typer.Option(30, min=1, help="Of each function; the median counts.")) -> None:
    """Print a table: microseconds in NumPy and in Cython."""
    if boxes._boxes is None:
        raise AgedgeError("boxes: the compiled functions are not built here: `make` builds them")
    np.random.seed(1)
    print(f"{'':28}{'boxes':>7}{'kept':>7}{'NumPy, us':>12}{'Cython, us':>12}{'gain':>8}")
    for name, count, kept, plain, mine in list_jobs():
        slow, fast = (time_job(job, repeats) for job in (plain, mine))
        print(f"{name:28}{count:7d}{kept:7d}{slow:12.0f}{fast:12.0f}{slow / fast:7.1f}x")


def list_jobs() -> Iterator[tuple]:
    """Yield (name, boxes, boxes kept, NumPy's job, Cython's job)."""
    for kind, make in (("scattered", scatter), ("crowded", crowd)):
        for method, threshold in (("union", 0.3), ("union", 0.7), ("min", 0.7)):
            for count in COUNTS:
                some, scores = make(count), np.random.rand(count).astype(np.float32)
                arguments = (some, scores, threshold, method)
                kept = boxes.nms_numpy(*arguments)
                assert (boxes.nms(*arguments) == kept).all()
                name = f"nms {method} {threshold}, {kind}"
                yield name, count, len(kept), *bind(boxes.nms_numpy, boxes.nms, arguments)
    faces = crowd(40)
    for plain, mine in ((boxes.overlaps_numpy, boxes.overlaps), (boxes.match_numpy, boxes.match)):
        for count in COUNTS:
            yield f"{mine.__name__} with 40 faces", count, count, *bind(plain, mine, (crowd(count), faces))
    for count in COUNTS:
        maps = make_maps(count)
        found = len(anchors.decode_maps(*maps)[0])
        yield "decode_maps, 5% faces", count, found, *bind(anchors.decode_maps_numpy, anchors.decode_maps, maps)


def bind(plain: Callable, mine: Callable, arguments: tuple) -> tuple:
    return (lambda: plain(*arguments)), (lambda: mine(*arguments))


def time_job(job: Callable, repeats: int) -> float:
    """Microseconds of a job: the median of several runs, after one that does not count."""
    job()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        job()
        times.append(time.perf_counter() - started)
    return 1e6 * median(times)


def scatter(count: int) -> np.ndarray:
    """Boxes (n, 4) of 16 to 64 pixels all over an image that grows with their number."""
    centre = np.random.uniform(0, 200 * np.sqrt(count), (count, 2))
    half = np.random.uniform(8, 32, (count, 1))
    return np.hstack([centre - half, centre + half])


def crowd(count: int) -> np.ndarray:
    """Boxes (n, 4) about faces of 16 to 300 pixels, off by about a seventh of the face in place and size."""
    face = np.random.randint(0, FACES, count)
    side = np.exp(np.random.uniform(np.log(16), np.log(300), FACES))[face, None]
    centre = np.random.uniform(0, SIDE, (FACES, 2))[face] + np.random.normal(0, 0.15, (count, 2)) * side
    half = side * np.exp(np.random.normal(0, 0.15, (count, 1))) / 2
    return np.hstack([centre - half, centre + half])


def make_maps(count: int) -> tuple:
    """The three maps of stride 8 with about `count` anchors, one in twenty of them a face, and the threshold."""
    side = int(np.ceil(np.sqrt(count / 2)))
    score = np.where(np.random.rand(1, 4, side, side) < 0.05, 0.9, 0.1)
    box, landmarks = (np.random.normal(0, 0.3, (1, channels, side, side)) for channels in anchors.CHANNELS[1:])
    return 8, *(each.astype(np.float32) for each in (score, box, landmarks)), 0.5


if __name__ == "__main__":
    run_command(main)

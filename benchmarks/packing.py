"""What packing costs, beside what it replaces: python -m benchmarks.packing [--root UTKFACE] [--rows 10000,100000]

Whole commands are timed, start and files included, `--repeats` times in turn, and the medians compared. Without --root
the faces are drawn for the purpose. --rows measures memory instead. Run it with nothing else running.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from statistics import median
from typing import Optional

import cv2
import numpy as np
import typer

from agedge.cli import run_command
from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.faces.align import align
from agedge.faces.detection import choose_main, create_detector, detect_padded
from agedge.sources import read_image
from rec_tools.readers import find_reader

PYTHON = [sys.executable, "-m"]
LARGE = 4000  # images that are enlarged
NAIVE = 400  # faces that the naive loop detects: it takes a while
RECORDS = 20_000  # that inspect looks at


def main(
    root: Optional[Path] = typer.Option(None, help="A UTKFace folder of chips."),
    faces: int = typer.Option(4000, help="Drawn faces, without --root."),
    repeats: int = typer.Option(3),
    workers: int = typer.Option(os.cpu_count() or 1),
    rows: str = typer.Option("", help="Numbers of rows to measure the memory of a pack at, such as 10000,100000."),
):
    """Print a table: images a second of pack and of its peers."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if root is None:
            root = work / "UTKFace"
            draw_chips(root, faces)
        if rows:
            measure_memory(root, work, workers, [int(number) for number in rows.split(",")])
        else:
            compare(root, work, repeats, workers)


def compare(root: Path, work: Path, repeats: int, workers: int) -> None:
    compare_plain(root, work / "chips", repeats, workers)
    enlarge(root, work / "photos")
    compare_plain(work / "photos", work / "large", repeats, workers)
    compare_aligned(root, work, repeats, workers)
    time_inspect([work / "chips/whole/all.rec", work / "mtcnn/all.rec"], work, repeats)


def compare_plain(root: Path, work: Path, repeats: int, workers: int) -> None:
    """Packing without alignment, beside MXNet's im2rec and a plain loop, and copying."""
    work.mkdir()
    images = images_of(root)
    pack = pack_words(root, workers)
    write_list(images, root, work / "im2rec.lst")
    im2rec = [*PYTHON, "mxnet.tools.im2rec", str(work / "im2rec"), str(root), "--resize", "112", "--pack-label"]
    jobs = {
        "pack --align none": lambda: run(*pack, "--out", str(work / "whole")),
        "im2rec": lambda: run(*im2rec),
        f"im2rec --num-thread {workers}": lambda: run(*im2rec, "--num-thread", str(workers)),
        "cv2 + MXIndexedRecordIO": lambda: pack_plainly(images, work / "plain"),
        "pack --size 0": lambda: run(*pack, "--out", str(work / "same"), "--size", "0"),
        "copying the files": lambda: copy(images, work / "copy"),
    }
    rates = time_in_turn(jobs, repeats, len(images))
    side = cv2.imread(str(images[0])).shape[0]
    print_rates(f"{len(images)} images of {side} pixels to 112, {workers} workers, medians of {repeats} runs", rates)
    mine, peers = rates["pack --align none"], list(rates)[1:4]
    print("align none: " + ", ".join(f"{mine / rates[peer]:.2f}x {peer}" for peer in peers))
    print(f"size 0: {rates['copying the files'] / rates['pack --size 0']:.2f} of the time of copying\n")


def compare_aligned(root: Path, work: Path, repeats: int, workers: int) -> None:
    """Packing by landmarks, beside a detector with its own settings that takes image by image."""
    images = images_of(root)
    some = images[:: max(1, len(images) // NAIVE)][:NAIVE]
    create_naive_detector()
    words = (*pack_words(root, workers), "--out", str(work / "mtcnn"), "--align", "mtcnn", "--crop", "utkface")
    rates = time_in_turn({"pack --align mtcnn": lambda: run(*words)}, repeats, len(images))
    rates.update(time_in_turn({"MTCNN image by image": lambda: detect_naively(some)}, repeats, len(some)))
    print_rates(f"{len(images)} images, {workers} workers, medians of {repeats} runs", rates)
    print(f"align mtcnn: {rates['pack --align mtcnn'] / rates['MTCNN image by image']:.1f}x image by image\n")


def images_of(root: Path) -> list:
    return [row.image for row in find_reader("utkface").read(root) if hasattr(row, "image")]


def pack_words(root: Path, workers: int) -> list:
    return [*PYTHON, "rec_tools", "pack", "utkface", "--root", str(root), "--workers", str(workers)]


def print_rates(title: str, rates: dict) -> None:
    print(f"{title}; images/s")
    for name, rate in rates.items():
        print(f"{name:28}{rate:8.0f}")


def enlarge(root: Path, folder: Path) -> None:
    """Some of the images as photographs of 500 pixels."""
    folder.mkdir()
    for image in images_of(root)[:LARGE]:
        large = cv2.resize(cv2.imread(str(image)), (500, 500), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / image.name), large)


def time_in_turn(jobs: dict, repeats: int, images: int) -> dict:
    """Images a second of every job, the median of several rounds over all of them."""
    seconds = {name: [] for name in jobs}
    for _, (name, job) in itertools.product(range(repeats), jobs.items()):
        started = time.perf_counter()
        job()
        seconds[name].append(time.perf_counter() - started)
    return {name: images / median(times) for name, times in seconds.items()}


def run(*words: str) -> None:
    ended = subprocess.run(words, capture_output=True, text=True)
    if ended.returncode:
        raise AgedgeError(f"{words[2]}: {ended.stderr.strip().splitlines()[-1]}")


def write_list(images: list, root: Path, path: Path) -> None:
    """The .lst of im2rec, with labels of three numbers."""
    lines = (f"{number}\t1\t30\t30\t{image.relative_to(root)}\n" for number, image in enumerate(images))
    path.write_text("".join(lines))


def pack_plainly(images: list, path: Path) -> None:
    import mxnet as mx

    record = mx.recordio.MXIndexedRecordIO(f"{path}.idx", f"{path}.rec", "w")
    for number, image in enumerate(images):
        face = cv2.resize(cv2.imread(str(image)), (112, 112), interpolation=cv2.INTER_AREA)
        header = mx.recordio.IRHeader(0, [1, 30, 30], number, 0)
        record.write_idx(number, mx.recordio.pack_img(header, face, quality=95))
    record.close()


def copy(images: list, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for image in images:
        shutil.copyfile(image, folder / image.name)


def detect_naively(images: list) -> None:
    """A detector with its own settings, one image after the other, as most scripts do."""
    detector, crop = create_naive_detector(), Crop.named("utkface", 112)
    for path in images:
        image = read_image(path)
        faces = detector.detect(image)
        faces = faces if len(faces) else detect_padded(detector, image)
        if len(faces):
            cv2.imencode(".jpg", align(image, faces.landmarks[choose_main(faces.boxes, image.shape)], crop))


@cache
def create_naive_detector():
    """Made, and run, once: that is not what is timed."""
    detector = create_detector("mtcnn")
    detector.detect(np.zeros((200, 200, 3), np.uint8))
    return detector


def time_inspect(files: list, work: Path, repeats: int) -> None:
    """inspect, on records half of which are near-identical to the others."""
    both, some = work / "both.rec", work / "some.rec"
    run(*PYTHON, "rec_tools", "merge", *map(str, files), "--out", str(both))
    count = min(RECORDS, sum(1 for _ in both.with_suffix(".idx").open()))
    run(*PYTHON, "rec_tools", "sample", str(both), "--out", str(some), "--faces", str(count))
    words = [*PYTHON, "rec_tools", "inspect", str(some), "--report", str(work), "--json", str(work / "inspect.json")]
    rate = time_in_turn({"inspect": lambda: run(*words)}, repeats, count)["inspect"]
    print(f"inspect of {count} records, copies, pictures and all: {count / rate:.1f} s")


def measure_memory(root: Path, work: Path, workers: int, counts: list) -> None:
    """The largest sum of the memory that a pack's processes hold, for several numbers of rows."""
    images = images_of(root)
    for count in counts:
        folder = work / f"rows{count}"
        folder.mkdir()
        for number, image in zip(range(count), itertools.cycle(images)):
            os.link(image, folder / f"{1 + number % 90}_{number % 2}_0_{number:017d}.jpg.chip.jpg")
        words = [*pack_words(folder, workers), "--out", str(work / f"out{count}"), "--split", "train=0.9,val=0.1"]
        peaks = watch(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        print(f"{count} rows: {peaks[0]:.0f} MB in the main process, {peaks[1]:.0f} MB in all {workers + 1}")


def watch(process: subprocess.Popen, pause: float = 0.02) -> list:
    """[the process, it and its workers]: most resident memory in MB while it runs."""
    peaks = [0.0, 0.0]
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        held = [resident(process.pid), *map(resident, children.read_text().split() if children.is_file() else [])]
        peaks = [max(peaks[0], held[0]), max(peaks[1], sum(held))]
        time.sleep(pause)
    return peaks


def resident(pid) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def draw_chips(root: Path, count: int) -> None:
    """Drawn faces under UTKFace's names."""
    with tempfile.TemporaryDirectory() as folder:
        run(*PYTHON, "rec_tools", "draw", "--out", f"{folder}/drawn", "--faces", str(count))
        rows = [row for row in find_reader("imdb_wiki").read(Path(folder) / "drawn") if hasattr(row, "image")]
        root.mkdir()
        for number, row in enumerate(rows):
            if row.image.is_file() and cv2.imread(str(row.image)) is not None:  # im2rec ends at one that is none
                shutil.copyfile(row.image, root / f"{row.label.age_min:g}_0_0_{number:017d}.jpg.chip.jpg")


if __name__ == "__main__":
    run_command(main)

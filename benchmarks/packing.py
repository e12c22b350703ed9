"""Images a second that `pack --align none` reads, resizes and encodes: python -m benchmarks.packing [--root UTKFACE]

Without --root it packs faces drawn for the purpose (160 pixels). Run it with nothing else running.
"""

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Optional

import typer

from agedge.cli import run_door
from rec_tools.pack import pack
from rec_tools.prepare import Preparation
from rec_tools.readers import find_reader
from rec_tools.split import Split


def main(
    root: Optional[Path] = typer.Option(None, help="A UTKFace folder."),
    faces: int = typer.Option(4000, help="Drawn faces, without --root."),
    repeats: int = typer.Option(3),
    workers: int = typer.Option(os.cpu_count() or 1),
):
    """Median images a second of several packs, workers started and files closed included."""
    with tempfile.TemporaryDirectory() as folder:
        options = {} if root else {"faces": faces}
        reader = find_reader("utkface" if root else "drawn")
        root = root or Path(folder) / "drawn"
        rows = list(reader.read(root, **options))
        rates = []
        for repeat in range(repeats):
            started = time.perf_counter()
            out = Path(folder) / f"out{repeat}"
            report = pack(rows, out, Split.parse(""), Preparation(), source="", terms="", workers=workers)
            rates.append(sum(report.packed.values()) / (time.perf_counter() - started))
    print(f"{reader.SOURCE}: {len(rows)} rows, {workers} workers: {median(rates):.0f} images/s")
    print("runs: " + ", ".join(f"{rate:.0f}" for rate in rates))


if __name__ == "__main__":
    run_door(main)

"""Read corpus files with the reader of a target, as a program: read_corpus.py TARGET FILE ...

It prints a line of JSON per file: its name, the outcome ("read", "refused: REASON"), the processor time in seconds, and
the peak memory so far in MB. Any exception other than an error of one line ends the process. Run by `test_corpus.py`.
"""

import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from agedge.errors import AgedgeError

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "mobilenet025"


def read_image_file(file: Path, work: Path) -> None:
    from agedge.sources import read_image

    read_image(file)


def read_model(runtime: str, name: str):
    """Return a reader of the shipped model with one of its files replaced, without checksums."""

    def read(file: Path, work: Path) -> None:
        from agedge.runtime import load_model

        folder = work / "model"
        shutil.copytree(MODEL, folder)
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        (folder / "card.json").write_text(json.dumps({**card, "sha256": {}}), encoding="utf-8")
        shutil.copy(file, folder / name)
        model = load_model(folder, runtime, threads=1, trust=True)
        model.predict(np.zeros((1, model.card.input["size"], model.card.input["size"], 3), np.uint8))

    return read


def read_checkpoint(name: str):
    """Return a reader of a model without a card, with one of its files replaced."""

    def read(file: Path, work: Path) -> None:
        from agedge.runtime import load_model

        for source, own in (
            ("mobilenet025-symbol.json", "m-symbol.json"),
            ("mobilenet025-0000.params", "m-0000.params"),
        ):
            shutil.copy(MODEL / source, work / own)
        shutil.copy(file, work / name)
        load_model(f"{work}/m,0").predict(np.zeros((1, 112, 112, 3), np.uint8))

    return read


def read_as(name: str, module: str, function: str, of_folder: bool = False):
    """Return a reader that calls `module.function` with a copy of the file called `name`, or with its folder."""

    def read(file: Path, work: Path) -> None:
        from importlib import import_module

        shutil.copy(file, work / name)
        found = getattr(import_module(module), function)(work if of_folder else work / name)
        if hasattr(found, "__next__"):
            list(found)

    return read


READERS = {
    "images": read_image_file,
    "symbol": read_checkpoint("m-symbol.json"),
    "params": read_checkpoint("m-0000.params"),
    "card": read_model("mxnet", "card.json"),
    "onnx": read_model("onnx", "mobilenet025.onnx"),
    "ncnn": read_model("ncnn", "mobilenet025.ncnn.param"),
    "mat": read_as("imdb.mat", "rec_tools.readers.imdb_wiki", "read", of_folder=True),
    "npz": read_as("a.npz", "rec_tools.readers.npz", "read"),
    "h5": read_as("w.h5", "deploy.importers.h5_file", "read_h5"),
    "pth": read_as("w.pth", "deploy.importers.pth_file", "read_pth"),
    "recipe": read_as("r.yaml", "agedge.training.recipe", "load_recipe"),
    "ckpt": read_as("last.ckpt", "agedge.training.run.checkpoint", "read_state"),
    "tables": read_as("faces.csv", "rec_tools.readers.faces", "read", of_folder=True),
}


def peak_memory() -> int:
    """Return the peak memory of this process in MB, or 0 if it is unknown. `getrusage` would include the parent's."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) // 1000 if found else 0


def main(target: str, *files: str) -> None:
    for file in map(Path, files):
        began, ended = time.process_time(), "read"
        with tempfile.TemporaryDirectory() as work:
            try:
                READERS[target](file, Path(work))
            except (AgedgeError, OSError) as error:
                assert "\n" not in str(error), f"{file}: more than one line: {error}"
                ended = f"refused: {error}"
        line = {"file": file.name, "ended": ended, "seconds": time.process_time() - began, "memory": peak_memory()}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Convert an ONNX model to ncnn's .param and .bin, in fp32 and with fp16 weights, by `pnnx` from its wheel.

pnnx returns 0 even where it dropped a parameter that ncnn lacks, so its log is read. Its files are final: ncnnoptimize
on top of them folds a BatchNorm across a ReLU and is wrong.
"""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Dict

from agedge.errors import AgedgeError
from agedge.runtime.card import Card, fixed_inputs
from agedge.safe_write import temporary_folder
from deploy.formats.ncnn_crops import drop_crops, put_crops
from deploy.formats.to_onnx import SIDE

HALF = {"ncnn": False, "ncnn-fp16": True}


def write_ncnn(card: Card, onnx_file: Path, runtime: str, param: Path, weights: Path) -> Dict[str, str]:
    """Write the ncnn files `param` and `weights` from the ONNX file of `card`; `runtime`: "ncnn" or "ncnn-fp16".

    Returns ncnn's names of the inputs and outputs: {"data": "in0", "age": "out0", ...}. Raises `AgedgeError` if pnnx
    is missing, fails, or leaves an operation out. `deploy.export` compares the outputs.
    """
    size = card.input.get("size", SIDE)
    any_side = "size" not in card.input
    constants = fixed_inputs(card)
    shapes = [(1, 3, size, size), *(value.shape for value in constants.values())]
    listed = ",".join("[" + ",".join(map(str, shape)) + "]" for shape in shapes)
    with temporary_folder() as scratch:
        # pnnx leaves a dozen files beside its input: they go with the folder.
        net = shutil.copyfile(onnx_file, Path(scratch, "net.onnx"))
        if any_side:
            drop_crops(net)
        command = [str(find_pnnx()), "net.onnx", f"inputshape={listed}", f"fp16={int(HALF[runtime])}"]
        done = subprocess.run(command, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        written = [Path(scratch, "net.ncnn.param"), Path(scratch, "net.ncnn.bin")]
        require_faithful(card.name, done.returncode, done.stdout)
        if not all(file.is_file() for file in written):
            raise AgedgeError(f"{card.name}: pnnx wrote no ncnn files")
        if any_side:
            put_crops(written[0])
        for file, target in zip(written, (param, weights)):
            shutil.copyfile(file, target)
    names = [card.input["name"], *constants]
    blobs = {name: f"in{index}" for index, name in enumerate(names)}
    blobs.update({name: f"out{index}" for index, name in enumerate(card.outputs)})
    return blobs


def require_faithful(name: str, status: int, log: str) -> None:
    """Raise `AgedgeError` if pnnx failed, or its log lists operations that it left out."""
    dropped = [line.strip() for line in log.splitlines() if line.startswith("ignore")]
    if status != 0:
        last = ([line.strip() for line in log.splitlines() if line.strip()] or ["no output"])[-1]
        raise AgedgeError(f"{name}: pnnx failed with status {status}: {last}")
    if dropped:
        raise AgedgeError(f"{name}: ncnn lacks {len(dropped)} operations that pnnx left out: {dropped[0]}")


def find_pnnx() -> Path:
    """Return the path of the converter in the wheel, whose Python package needs torch and is not imported."""
    spec = find_spec("pnnx")
    for folder in spec.submodule_search_locations if spec and spec.submodule_search_locations else []:
        for name in ("pnnx", "pnnx.exe"):
            if Path(folder, name).is_file():
                return Path(folder, name)
    raise AgedgeError("pnnx is not installed: `pip install --no-deps pnnx`, as `make` does")

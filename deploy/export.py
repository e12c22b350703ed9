"""Export a model: its slim MXNet graph, ONNX and ncnn in one folder with one card, each compared with MXNet.

A detector is exported alike; `deploy.detector` has the differences.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Union

import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.faces.essh.card import is_detector
from agedge.results.overwrite import check_model_folder
from agedge.runtime.model_files import find_model, move_model
from agedge.safe_write import naming, temporary_folder
from deploy import detector
from deploy.formats.to_ncnn import HALF, write_ncnn
from deploy.formats.to_onnx import write_onnx
from deploy.isolated import run_isolated
from deploy.probe_images import draw_probes
from deploy.slim import SlimModel, slim_into
from deploy.tolerances import TOLERANCES, Difference, Tolerance, compare_raw

FORMATS = ("onnx", "ncnn")
# The spread of the outputs over the drawn images below which a comparison proves little; ten times ONNX's tolerance.
DEAD = 1e-3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """One format of the model: its files, their bytes in all, and the differences from MXNet on drawn images."""

    runtime: str
    files: List[str]
    size: int
    differences: Dict[str, Difference]


def export_model(model: Union[str, Path], formats: Sequence[str], out: Union[str, Path]) -> List[Exported]:
    """Write a model folder, run or "PREFIX,EPOCH" into `out` as MXNet files and in `formats`, with card.json.

    `out` may be the model's own folder. Raises `AgedgeError` if a model cannot be read or converted, or if the
    outputs of a format differ from MXNet's: then nothing is written into `out`.
    """
    for name in formats:
        if name not in FORMATS:
            raise choices("to", name, FORMATS)
    finds_faces = is_detector(model)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with naming(out), temporary_folder(out) as scratch:
        stage = Path(scratch, "model")
        slim = detector.slim_detector(model, stage) if finds_faces else slim_into(find_model(model), stage)
        card = slim.card
        write_formats(slim, formats, Path(scratch))
        card.save(stage)
        if finds_faces:
            exported = compare_formats(slim, detector.run_exported, detector.TOLERANCES)
        else:
            exported = compare_formats(slim, run_exported, TOLERANCES)
        check_model_folder(out, stage, list(card.sha256))
        move_model(card, out)
    return exported


def write_formats(slim: SlimModel, formats: Sequence[str], scratch: Path) -> None:
    """Write ONNX and ncnn files into the folder of the slim model, and name them in its card.

    ONNX is written into `scratch` where it is only needed for ncnn.
    """
    card = slim.card
    onnx_file = (slim.folder if "onnx" in formats else scratch) / f"{card.name}.onnx"
    if "onnx" in formats:
        card.files["onnx"] = {"model": onnx_file.name}
    if formats:
        write_onnx(card, slim.checkpoint, onnx_file)
    if "ncnn" in formats:
        for runtime, half in HALF.items():
            base = f"{card.name}-fp16.ncnn" if half else f"{card.name}.ncnn"
            param, weights = f"{base}.param", f"{base}.bin"
            card.files[runtime] = {"param": param, "bin": weights}
            card.blobs[runtime] = write_ncnn(card, onnx_file, runtime, slim.folder / param, slim.folder / weights)


def run_exported(slim: SlimModel, runtime: str) -> Dict[str, np.ndarray]:
    """Run an exported format on the drawn images, in a process of its own; returns its outputs (n, k) by name."""
    return run_isolated(slim.folder, runtime, draw_probes(slim.card.input["size"]))


def compare_formats(
    slim: SlimModel,
    run: Callable[[SlimModel, str], Dict[str, np.ndarray]],
    tolerances: Dict[str, Tolerance],
) -> List[Exported]:
    """Compare every format of the model with MXNet on the drawn images.

    `run(slim, runtime)` returns the outputs of a format. Raises `AgedgeError` for one that is over its tolerance.
    """
    card = slim.card
    if all(np.ptp(value, axis=0).max() < DEAD for value in slim.outputs.values()):
        log.warning(
            "%s: its outputs are the same for all drawn images, so equality proves little: run `check`", card.name
        )
    exported = []
    for runtime, files in card.files.items():
        names = list(files.values())
        differences = {}
        if runtime != "mxnet":
            differences = compare_raw(slim.outputs, run(slim, runtime))
            fault = tolerances[runtime].find_fault(differences)
            if fault:
                raise AgedgeError(f"{names[0]}: the outputs of {runtime} differ from MXNet's: {fault}")
        size = sum((slim.folder / name).stat().st_size for name in names)
        exported.append(Exported(runtime, names, size, differences))
    return exported

"""Ship a model: its slim MXNet graph, ONNX and ncnn in one folder with one card, each proven to say what MXNet says.

A detector goes the same way; what is its own is in `deploy.detector`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.faces.essh.card import is_detector
from agedge.results.overwrite import check_model_folder
from agedge.runtime.card import Card
from agedge.runtime.model import open_model
from agedge.runtime.model_files import move_model
from agedge.safe_write import naming, temporary_folder
from deploy import detector
from deploy.isolated import ask_apart
from deploy.probe_images import draw_probes
from deploy.slim import slim_model
from deploy.to_ncnn import HALF, write_ncnn
from deploy.to_onnx import write_onnx
from deploy.tolerances import GATES, Difference, Gate, compare_raw

FORMATS = ("onnx", "ncnn")
DEAD = 1e-3  # spread of the outputs over the probes below which a comparison of them is empty; ten times ONNX's gate
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """One form of the model: files, bytes in all, and by output how far it is from MXNet on drawn pictures."""

    runtime: str
    files: List[str]
    size: int
    differences: Dict[str, Difference]


def export_model(model, formats: Sequence[str], out) -> List[Exported]:
    """Write a model folder, run or "PREFIX,EPOCH" into `out` as MXNet files and the `formats`, with card.json.

    `out` may be the model's own folder. Raises `AgedgeError` where a model cannot be read or converted, or where what
    was written says something else than MXNet: nothing is left in `out` then that was not there before.
    """
    for name in formats:
        if name not in FORMATS:
            raise choices("to", name, FORMATS)
    finds_faces = is_detector(model)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with naming(out), temporary_folder(out) as scratch:
        stage = Path(scratch, "model")
        card = detector.slim_detector(model, stage) if finds_faces else slim_model(model, stage)
        onnx_file = stage / f"{card.name}.onnx"
        if "onnx" in formats:
            card.files["onnx"] = {"model": onnx_file.name}
        else:
            onnx_file = Path(scratch, onnx_file.name)
        if formats:
            write_onnx(card, onnx_file)
        if "ncnn" in formats:
            for runtime, half in HALF.items():
                base = f"{card.name}-fp16.ncnn" if half else f"{card.name}.ncnn"
                card.files[runtime] = {"param": f"{base}.param", "bin": f"{base}.bin"}
                card.blobs[runtime] = write_ncnn(
                    card, onnx_file, runtime, stage / f"{base}.param", stage / f"{base}.bin"
                )
        card.save(stage)
        exported = prove(card, detector.ask_detector, detector.GATES) if finds_faces else prove(card)
        check_model_folder(out, stage, list(card.sha256))
        move_model(card, out)
    return exported


def ask_model(card: Card, runtime: str) -> Dict[str, np.ndarray]:
    """What a form of the model says of the drawn pictures, (n, k) by output."""
    probes = draw_probes(card.input["size"])
    return (
        open_model(card, runtime).raw_outputs(probes) if runtime == "mxnet" else ask_apart(card.folder, runtime, probes)
    )


def prove(card: Card, ask: Callable = ask_model, gates: Dict[str, Gate] = GATES) -> List[Exported]:
    """Ask every form of the model about the same drawn pictures. Raises `AgedgeError` for one that is over its gate."""
    ours = ask(card, "mxnet")
    if all(np.ptp(value, axis=0).max() < DEAD for value in ours.values()):
        log.warning("%s: it says the same of every drawn picture, so equality proves little: run `check`", card.name)
    exported = []
    for runtime, files in card.files.items():
        names = list(files.values())
        differences = {}
        if runtime != "mxnet":
            differences = compare_raw(ours, ask(card, runtime))
            fault = gates[runtime].fault(differences)
            if fault:
                raise AgedgeError(f"{names[0]}: {runtime} does not say what MXNet says: {fault}")
        size = sum((card.folder / name).stat().st_size for name in names)
        exported.append(Exported(runtime, names, size, differences))
    return exported

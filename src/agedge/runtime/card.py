"""Read and write card.json, which lies beside every model: its inputs and outputs, its files, and its metrics.

docs/card.md describes the format, and `card.schema.json` beside this file is its JSON Schema.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Type, TypeVar, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.labels import MAX_AGE
from agedge.run_folder import MODEL
from agedge.runtime.checks.card_fields import (
    check_common,
    check_model_input,
    check_model_outputs,
    read_json,
    require_plain_name,
)
from agedge.runtime.checks.card_format1 import convert_format_1
from agedge.runtime.checks.ncnn_model import check_ncnn
from agedge.runtime.checks.onnx_model import check_onnx
from agedge.runtime.outputs import Outputs
from agedge.safe_write import write_json

FORMAT = 2
log = logging.getLogger(__name__)


@dataclass
class Card:
    """One model, in one or more file formats.

    `name`: of the network, in file names too.
    `network`: its name and arguments, as `symbols.create` takes them.
    `input`: {"name", "size", "channels": "RGB", "range": [0, 255]}; "constants", {name: numbers}, are inputs with the
        same value for every face, which `deploy slim --arange inputs` makes.
    `outputs`: kinds by name, in the order of the network: {"age": {"kind": "years"}}. In the file it is a list.
    `crop`: how faces are cropped for the network, None if that is unknown.
    `files`: file names by runtime: {"mxnet": {"symbol": F, "params": F}, "onnx": {"model": F},
        "ncnn": {"param": F, "bin": F}, "ncnn-fp16": {...}}, within the card's folder; `sha256` by file name.
    `blobs`: ncnn's own names of inputs and outputs: {"ncnn": {"data": "in0", "age": "out0"}, "ncnn-fp16": {...}}.
    `training`: data, recipe and epochs; `terms`: the terms of use of the data.
    `error`: the metrics of evaluate.py, with age bands.
    `interval`: {"level", "age": [...], "low": [...], "high": [...]}, offsets in years by predicted age.
    `task`: what the network is for; a detector has `agedge.faces.essh.card.DetectorCard`.
    """

    name: str
    network: Dict[str, Any]
    input: Dict[str, Any]
    outputs: Outputs
    crop: Optional[Crop] = None
    files: Dict[str, Dict[str, str]] = field(default_factory=dict)
    sha256: Dict[str, str] = field(default_factory=dict)
    blobs: Dict[str, Dict[str, str]] = field(default_factory=dict)
    training: Dict[str, Any] = field(default_factory=dict)
    terms: str = ""
    error: Dict[str, Any] = field(default_factory=dict)
    interval: Dict[str, Any] = field(default_factory=dict)
    task: str = "age and gender"
    folder: Optional[Path] = None
    # Not in the file: whether the card was read from one, and whether the user trusts files without a checksum.
    is_read: bool = field(default=False, init=False, repr=False, compare=False)
    trusted: bool = field(default=False, init=False, repr=False, compare=False)

    @classmethod
    def check_json(cls, value: Dict[str, Any]) -> None:
        """Raise `ValueError`, which names the key, if a JSON object is not a card of this task in format 2."""
        check_common(value)
        check_model_input(value["input"])
        check_model_outputs(value["outputs"])

    def check_names(self) -> None:
        """Raise `ValueError` if the name of the card or of a file is not plain and may leave the card's folder."""
        require_plain_name(self.name, "name")
        for runtime, parts in self.files.items():
            for part, name in parts.items():
                require_plain_name(name, f"files: {runtime}: {part}")

    def to_json(self) -> Dict[str, Any]:
        """Return the JSON object of the file."""
        value = {"format": FORMAT, **self.__dict__, "crop": self.crop.to_json() if self.crop else None}
        value["outputs"] = [{"name": name, **output} for name, output in self.outputs.items()]
        for name in ("folder", "is_read", "trusted"):
            value.pop(name, None)
        return value

    def save(self, folder: Union[str, Path]) -> None:
        """Write `folder/card.json` with the checksums of the files that it names."""
        folder = Path(folder)
        names = [name for group in self.files.values() for name in group.values()]
        self.sha256 = {name: checksum(folder / name) for name in sorted(names)}
        write_json(folder / "card.json", self.to_json())
        self.folder = folder

    def find_file(self, name: str) -> Path:
        """Return the path of a file in the card's folder, which must be known."""
        assert self.folder is not None, "the card was neither read nor written"
        return self.folder / name

    def path(self, runtime: str, part: str) -> Path:
        """Return a file of this model, after checking its checksum and, for ONNX and ncnn, its content.

        Raises `AgedgeError` if the file is missing, was changed or cannot be read by the runtime, and if an ONNX
        or ncnn file has no checksum and the card is not `trusted`.
        """
        if runtime not in self.files:
            file = self.find_file("card.json")
            file = file if file.is_file() else self.find_file(self.name)  # a bare checkpoint
            raise AgedgeError(f"{file}: no {runtime} files; it has {', '.join(self.files) or 'none'}")
        path = self.find_file(self.files[runtime][part])
        if not path.is_file():
            raise AgedgeError(f"{path}: missing, though card.json names it")
        if path.name not in self.sha256:
            if runtime != "mxnet" and not self.trusted:
                raise AgedgeError(f"{path}: card.json has no SHA-256 of it: give --trust to run it without")
            if self.is_read:
                log.warning(
                    "%s: no SHA-256 of %s, which may be of another model", self.find_file("card.json"), path.name
                )
        elif self.sha256[path.name] != checksum(path):
            raise AgedgeError(f"{path}: its SHA-256 is not the one in card.json: damaged, or of another model")
        if part == "model":
            check_onnx(path)
        elif part == "bin":
            blobs = list(self.blobs.get(runtime, {}).values())
            check_ncnn(self.find_file(self.files[runtime]["param"]), path, blobs)
        return path

    def age_interval(self, age: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return (low, high) in years around predicted ages (n,); NaN where the model was not calibrated."""
        if not self.interval:
            return np.full_like(age, np.nan), np.full_like(age, np.nan)
        at = self.interval["age"]
        low = age + np.interp(age, at, self.interval["low"])
        high = age + np.interp(age, at, self.interval["high"])
        return np.clip(np.minimum(low, age), 0, None), np.clip(np.maximum(high, age), None, MAX_AGE)


AnyCard = TypeVar("AnyCard", bound=Card)


def fixed_inputs(card: Card) -> Dict[str, np.ndarray]:
    """Return the inputs that are the same for every face, {name: float32 array}; most networks have none."""
    return {name: np.array(value, np.float32) for name, value in card.input.get("constants", {}).items()}


def find_card(model: Union[str, Path]) -> Path:
    """Return the card of a model folder, or of a finished run (`runs/NAME`, with its model in `runs/NAME/model`)."""
    folder = Path(model)
    for path in (folder / "card.json", folder / MODEL / "card.json"):
        if path.is_file():
            return path
    raise AgedgeError(f"{folder}: {'no card.json in this folder' if folder.is_dir() else 'no such model folder'}")


def load_card(model: Union[str, Path], kind: Type[AnyCard] = Card) -> AnyCard:
    """Read the card of a model folder into its class `kind`; cards of format 1 are converted.

    Raises `AgedgeError` if the card is missing, of a newer format, of another task or not valid.
    """
    path = find_card(model)
    try:
        value = to_format_2(read_json(path), path)
        task = value.get("task", Card.task)
        if task != kind.task:
            raise ValueError(f"task: the card is for {task!r:.50}, not for {kind.task!r}")
        kind.check_json(value)
        del value["format"]
        crop, outputs = value.pop("crop"), value.pop("outputs")
        card = kind(
            **value,
            crop=Crop.from_json(crop, path) if crop else None,
            outputs=name_outputs(outputs),
            folder=path.parent,
        )
        card.is_read = True
        return card
    except RecursionError:
        raise AgedgeError(f"{path}: not a model card: nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise AgedgeError(f"{path}: not a model card: {reason:.300}") from error


def name_outputs(outputs: List[Dict[str, Any]]) -> Outputs:
    """Return the list of outputs in a file as kinds by name."""
    return {output["name"]: {key: value for key, value in output.items() if key != "name"} for output in outputs}


def to_format_2(value: Any, path: Path) -> Dict[str, Any]:
    """Return the JSON object of a card in format 2. Raises `AgedgeError` for a format that is not known."""
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    if "format" not in value:
        raise ValueError("format is missing")
    version = value["format"]
    if type(version) is int and version == 1:
        return convert_format_1(value)
    if type(version) is not int or version != FORMAT:
        raise AgedgeError(f"{path}: card format {version!r:.20}; this version of agedge reads formats 1 and {FORMAT}")
    return value


def checksum(path: Union[str, Path]) -> str:
    """Return the SHA-256 of a file in hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()

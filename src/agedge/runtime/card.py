"""card.json: what a model is, what it wants to see, what it says, and how good it was. Beside every model file."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.crop import Crop
from agedge.labels import MAX_AGE

FORMAT = 1
# The parts that each runtime's model has.
FILES = {
    "mxnet": ("symbol", "params"),
    "onnx": ("model",),
    "ncnn": ("param", "bin"),
    "ncnn-fp16": ("param", "bin"),
}


@dataclass
class Card:
    """One model, in one or more file formats.

    `network`: its name and arguments, as `symbols.create` takes them. `input`: {"name", "size", "channels": "RGB",
    "range": [0, 255]}; also "constants": {name: numbers} where `deploy slim --arange inputs` made inputs of constants.
    `crop`: what a face looks like to it, None where nobody knows. `outputs`: {"age": "years",
    "p_male": "probability"}. `files`: {"mxnet": {"symbol": F, "params": F}, "onnx": {"model": F},
    "ncnn": {"param": F, "bin": F}, "ncnn-fp16": {...}}, names within the card's folder; `sha256`: by file name.
    `blobs`: what a format calls input and outputs, where it has names of its own: {"ncnn": {"data": "in0",
    "age": "out0", "p_male": "out1"}, "ncnn-fp16": {...}}.
    `training`: data, records, epochs; `terms`: of its data; `error`: what evaluate.py measured, with bands;
    `interval`: {"level", "age": [...], "low": [...], "high": [...]}, offsets in years by predicted age. `task`: what
    the network is for; other tasks have cards of their own (`agedge.faces.essh_card`).
    """

    name: str
    network: dict
    input: dict
    outputs: dict
    crop: Optional[Crop] = None
    files: dict = field(default_factory=dict)
    sha256: dict = field(default_factory=dict)
    blobs: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    terms: str = ""
    error: dict = field(default_factory=dict)
    interval: dict = field(default_factory=dict)
    task: str = "age and gender"
    folder: Optional[Path] = None

    def check(self) -> None:
        """Raises one of Python's own errors where a card is not what a runtime can go by."""
        self.check_input()
        for name in ("network", "outputs", "files", "sha256", "blobs", "interval", "error", "training"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} is no object")
        for runtime, parts in self.files.items():
            if set(parts) != set(FILES[runtime]) or not all(isinstance(part, str) for part in parts.values()):
                raise ValueError(f"files of {runtime}: {', '.join(FILES[runtime])} are wanted")
        self.age_interval(np.zeros(1))

    def check_input(self) -> None:
        """`check` of what the network is shown."""
        size = self.input["size"]
        if not (isinstance(size, int) and size > 0 and isinstance(self.input["name"], str)):
            raise ValueError(f"input {self.input}")
        fixed_inputs(self)

    def save(self, folder) -> None:
        """Write `folder/card.json` with the checksums of the files that it names."""
        folder = Path(folder)
        names = [name for group in self.files.values() for name in group.values()]
        self.sha256 = {name: checksum(folder / name) for name in sorted(names)}
        value = {"format": FORMAT, **self.__dict__, "crop": self.crop.to_json() if self.crop else None}
        del value["folder"]
        partial = folder / "card.json.part"
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / "card.json")
        self.folder = folder

    def path(self, runtime: str, part: str) -> Path:
        """A file of this model, its checksum verified. Raises `AgedgeError` where it is absent or was changed."""
        if runtime not in self.files:
            file = self.folder / "card.json"
            file = file if file.is_file() else self.folder / self.name  # a bare checkpoint
            raise AgedgeError(f"{file}: no {runtime} files; it has {', '.join(self.files) or 'none'}")
        path = self.folder / self.files[runtime][part]
        if not path.is_file():
            raise AgedgeError(f"{path}: missing, though card.json names it")
        if self.sha256.get(path.name) not in (None, checksum(path)):
            raise AgedgeError(f"{path}: its SHA-256 is not the one in card.json: damaged, or from another model")
        return path

    def age_interval(self, age: np.ndarray) -> tuple:
        """(low, high) in years about predicted ages (n,), which they hold; NaN where the model was not calibrated."""
        if not self.interval:
            return np.full_like(age, np.nan), np.full_like(age, np.nan)
        at = self.interval["age"]
        low = age + np.interp(age, at, self.interval["low"])
        high = age + np.interp(age, at, self.interval["high"])
        return np.clip(np.minimum(low, age), 0, None), np.clip(np.maximum(high, age), None, MAX_AGE)


def fixed_inputs(card: Card) -> dict:
    """The inputs beside the image, which are the same for every face: {name: float32 array}; mostly none."""
    return {name: np.array(value, np.float32) for name, value in card.input.get("constants", {}).items()}


def find_card(model) -> Path:
    """The card of a model folder or of a finished run (`runs/NAME`, whose model lies in `runs/NAME/model`)."""
    folder = Path(model)
    for path in (folder / "card.json", folder / "model" / "card.json"):
        if path.is_file():
            return path
    raise AgedgeError(f"{folder}: {'no card.json in this folder' if folder.is_dir() else 'no such model folder'}")


def load_card(model, kind=Card) -> Card:
    """Read the card of a model folder; `kind` is its class. Raises `AgedgeError` where it is missing or none of it."""
    path = find_card(model)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version = value.pop("format")
        if version != FORMAT:
            raise AgedgeError(f"{path}: card format {version}; this version reads {FORMAT}")
        if value.get("task", Card.task) != kind.task:
            raise ValueError(f"it is for {value['task']}, not for {kind.task}")
        crop = value.pop("crop")
        card = kind(**value, crop=Crop.from_json(crop, path) if crop else None, folder=path.parent)
        card.check()
        return card
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AgedgeError(f"{path}: not a model card: {error!r}") from error


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()

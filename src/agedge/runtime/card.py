"""card.json: what a model is, what it wants to see, what it says, and how good it was. Beside every model file."""

import hashlib
import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.labels import MAX_AGE
from agedge.run_folder import MODEL
from agedge.runtime.checks.ncnn_model import check_ncnn
from agedge.runtime.checks.onnx_model import check_onnx
from agedge.safe_write import write_json

FORMAT = 1
MOST_BYTES = 8 << 20  # of a card; ours have 5 KB
MOST_SIDE = 1024  # pixels of a face; ours have 64 to 224
LONGEST_NAME = 200  # bytes of a file name: file systems end at 255, and a temporary name is longer
RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)  # devices on Windows, whatever the suffix
# The parts that each runtime's model has.
FILES = {
    "mxnet": ("symbol", "params"),
    "onnx": ("model",),
    "ncnn": ("param", "bin"),
    "ncnn-fp16": ("param", "bin"),
}
log = logging.getLogger(__name__)


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
    the network is for; other tasks have cards of their own (`agedge.faces.essh.card`).
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
    # Not of the file: whether it was read from one, and whether the user trusts files without a checksum.
    is_read: bool = field(default=False, init=False, repr=False, compare=False)
    trusted: bool = field(default=False, init=False, repr=False, compare=False)

    def check(self) -> None:
        """Raises one of Python's own errors where a card is not what a runtime can go by."""
        for name in ("input", "network", "outputs", "files", "sha256", "blobs", "interval", "error", "training"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} is not an object")
        self.check_input()
        for runtime, parts in self.files.items():
            if runtime not in FILES or not isinstance(parts, dict) or set(parts) != set(FILES[runtime]):
                raise ValueError(f"files of {runtime}: must be {', '.join(FILES.get(runtime, FILES))}")
        self.check_names()
        for name, digest in self.sha256.items():
            if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
                raise ValueError(f"sha256 of {name}: must be 64 hexadecimal digits")
        for runtime, blobs in self.blobs.items():
            if not isinstance(blobs, dict) or not all(isinstance(blob, str) for blob in blobs.values()):
                raise ValueError(f"blobs of {runtime}: must be names")
        if not all(isinstance(what, str) for what in self.outputs.values()):
            raise ValueError("outputs: must be texts by name")
        if not isinstance(self.terms, str):
            raise ValueError("terms: must be a text")
        self.check_interval()

    def check_names(self) -> None:
        """Raise `ValueError` where the name or a file's is not a plain file name, which stays in the card's folder."""
        require_plain_name(self.name, "name")
        for runtime, parts in self.files.items():
            for part, name in parts.items():
                require_plain_name(name, f"files: {runtime}: {part}")

    def check_input(self) -> None:
        """`check` of what the network is shown."""
        size = self.input["size"]
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MOST_SIDE:
            raise ValueError(f"input size {size!r:.20}: must be 1 to {MOST_SIDE} pixels")
        if not isinstance(self.input["name"], str):
            raise ValueError("input: its name must be a text")
        for name, value in fixed_inputs(self).items():
            if not value.ndim or not np.isfinite(value).all():
                raise ValueError(f"input constants: {name} must be a list of numbers")

    def check_interval(self) -> None:
        """Raise `ValueError` where the interval is not three lists of numbers, ages rising."""
        if not self.interval:
            return
        age, low, high = (np.array(self.interval[name]) for name in ("age", "low", "high"))
        for each in (age, low, high):
            if each.dtype.kind not in "if" or each.ndim != 1 or each.shape != age.shape or not np.isfinite(each).all():
                raise ValueError("interval: age, low and high must be as many finite numbers")
        if not age.size or (np.diff(age) < 0).any():
            raise ValueError("interval: age must rise")

    def save(self, folder) -> None:
        """Write `folder/card.json` with the checksums of the files that it names."""
        folder = Path(folder)
        names = [name for group in self.files.values() for name in group.values()]
        self.sha256 = {name: checksum(folder / name) for name in sorted(names)}
        value = {"format": FORMAT, **self.__dict__, "crop": self.crop.to_json() if self.crop else None}
        for name in ("folder", "is_read", "trusted"):
            value.pop(name, None)
        write_json(folder / "card.json", value)
        self.folder = folder

    def path(self, runtime: str, part: str) -> Path:
        """A file of this model, once its checksum was verified and, for ONNX and ncnn, the file itself was checked.

        Raises `AgedgeError` where it is absent, was changed or is not what the runtime can read, and where an ONNX or
        ncnn file has no checksum and the card is not `trusted`.
        """
        if runtime not in self.files:
            file = self.folder / "card.json"
            file = file if file.is_file() else self.folder / self.name  # a bare checkpoint
            raise AgedgeError(f"{file}: no {runtime} files; it has {', '.join(self.files) or 'none'}")
        path = self.folder / self.files[runtime][part]
        if not path.is_file():
            raise AgedgeError(f"{path}: missing, though card.json names it")
        if path.name not in self.sha256:
            if runtime != "mxnet" and not self.trusted:
                raise AgedgeError(f"{path}: card.json has no SHA-256 of it: to run it all the same, give --trust")
            if self.is_read:
                log.warning("%s: it has no SHA-256 of %s, which may be another's", self.folder / "card.json", path.name)
        elif self.sha256[path.name] != checksum(path):
            raise AgedgeError(f"{path}: its SHA-256 is not the one in card.json: damaged, or from another model")
        if part == "model":
            check_onnx(path)
        elif part == "bin":
            check_ncnn(self.folder / self.files[runtime]["param"], path, list(self.blobs.get(runtime, {}).values()))
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
    for path in (folder / "card.json", folder / MODEL / "card.json"):
        if path.is_file():
            return path
    raise AgedgeError(f"{folder}: {'no card.json in this folder' if folder.is_dir() else 'no such model folder'}")


def load_card(model, kind=Card) -> Card:
    """Read the card of a model folder; `kind` is its class. Raises `AgedgeError` where it is missing or none of it."""
    path = find_card(model)
    try:
        value = read_json(path)
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
        version = value.pop("format")
        if version != FORMAT:
            raise AgedgeError(f"{path}: card format {version!r:.20}; this version reads {FORMAT}")
        if value.get("task", Card.task) != kind.task:
            raise ValueError(f"it is for {value['task']}, not for {kind.task}")
        crop = value.pop("crop")
        card = kind(**value, crop=Crop.from_json(crop, path) if crop else None, folder=path.parent)
        card.check()
        card.is_read = True
        return card
    except RecursionError:
        raise AgedgeError(f"{path}: not a model card: nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise AgedgeError(f"{path}: not a model card: {reason:.300}") from error


def read_json(path: Path):
    """Return the value of a JSON file. Raises `ValueError` where it is too large, or an object has a key twice."""

    def make_object(pairs: list) -> dict:
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError("a key is there twice")
        return value

    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"over {MOST_BYTES >> 20} MB")
    return json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=make_object)


def require_plain_name(name, what: str) -> None:
    """Raise `ValueError` where `name` is not a file name on every system: without folders, drives or control signs."""
    if not isinstance(name, str) or not name.strip(" .") or not name.isprintable():
        raise ValueError(f"{what}: must be a plain file name")
    if set(name) & set('/\\:*?"<>|') or name[-1] in " ." or name.lower() == "card.json":
        raise ValueError(f"{what}: {name!r:.100} is not a plain file name")
    if len(name.encode("utf-8")) > LONGEST_NAME or RESERVED.fullmatch(name.split(".")[0].strip()):
        raise ValueError(f"{what}: {name!r:.100} is not a file name on every system")


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()

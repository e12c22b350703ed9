"""card.json of an ESSH checkpoint: `agedge.runtime.card.Card` with what a detector needs to know in its place."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Tuple

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.essh.anchors import STRIDES
from agedge.runtime.card import Card, checksum, find_card, load_card, read_json
from agedge.runtime.model_files import INPUT, save_model

KINDS = {"score": "probabilities", "box": "deltas", "landmarks": "deltas"}
OUTPUTS = {f"{kind}{stride}": what for stride in STRIDES for kind, what in KINDS.items()}
CHECKPOINT = {"symbol": "essh-symbol.json", "params": "essh-0000.params"}
log = logging.getLogger(__name__)


@dataclass
class DetectorCard(Card):
    """A detector's card: `input` has no size, since any will do, but `mean`: (R, G, B) to be subtracted from pixels.

    `outputs`: for strides 32, 16, 8 probabilities (n, 4, h, w), box deltas (n, 8, h, w) and landmark deltas
    (n, 20, h, w), as `symbols.essh` has them. `threshold`: the lowest score of a face, unless the user says another.
    `error`: what was measured on photographs.
    """

    name: str = "essh"
    network: dict = field(default_factory=dict)
    input: dict = field(
        default_factory=lambda: {"name": INPUT, "channels": "RGB", "range": [0, 255], "mean": [0, 0, 0]}
    )
    outputs: dict = field(default_factory=lambda: dict(OUTPUTS))
    task: str = "detection"
    threshold: float = 0.5

    @property
    def mean(self) -> np.ndarray:
        """(3,) float32, R, G, B: what is subtracted from the pixels before the network sees them."""
        return np.array(self.input.get("mean", (0, 0, 0)), np.float32)

    def check_input(self) -> None:
        if not (isinstance(self.input["name"], str) and self.mean.shape == (3,) and np.isfinite(self.mean).all()):
            raise ValueError("input must have a name, and a mean of three numbers")
        if not (isinstance(self.threshold, (int, float)) and 0 < self.threshold < 1):
            raise ValueError(f"threshold {self.threshold!r:.20}: must be between 0 and 1")

    def verify(self) -> None:
        """Raises `AgedgeError` where a file of the checkpoint is absent, or another than its checksum says."""
        for part in self.files.get("mxnet", {}) if self.is_read else ():
            self.path("mxnet", part)


def read_card(folder) -> DetectorCard:
    """The card of a detector's folder, such as `ssh_model`, or of the run that trained it.

    A checkpoint from elsewhere has none, and the mean 0; so has one that was put in the place of both of the card's
    files. One file other than its checksum is damage: `verify` says so. Raises `AgedgeError` where it is no card.
    """
    bare = DetectorCard(files={"mxnet": dict(CHECKPOINT)}, folder=Path(folder))
    try:
        find_card(folder)
    except AgedgeError:
        return bare
    card = load_card(folder, DetectorCard)
    names = card.files.get("mxnet", {}).values()
    if names and all(is_replaced(card, name) for name in names):
        log.warning("%s: of another model: left aside", card.folder / "card.json")
        return bare
    return card


def find_checkpoint(card: DetectorCard) -> Tuple[Path, Path]:
    """The symbol and the parameters of a card, whether they are there or not."""
    symbol, params = (card.folder / card.files["mxnet"][part] for part in ("symbol", "params"))
    return symbol, params


def is_detector(model) -> bool:
    """Whether a model folder or a run has the card of a detector."""
    try:
        return read_json(find_card(model))["task"] == DetectorCard.task
    except (AgedgeError, ValueError, KeyError, TypeError, RecursionError):
        return False


def is_replaced(card: Card, name: str) -> bool:
    """Whether the file `name` of a card is there, but another than its checksum says."""
    path = card.folder / name
    return path.is_file() and card.sha256.get(name) not in (None, checksum(path))


def save_detector(slim, card: DetectorCard, folder) -> DetectorCard:
    """Write `slim`, a Gluon HybridBlock of one input and the outputs of `card`, that has seen an image, as
    `agedge.runtime.save_model` does: its weights rounded to what half precision can hold, nothing half-written seen.

    essh-symbol.json, essh-0000.params and card.json; the graph takes images of any height and width.
    """
    return save_model(slim, card, folder)

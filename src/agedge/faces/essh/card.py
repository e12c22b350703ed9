"""card.json of an ESSH detector: `agedge.runtime.card.Card` with the fields that a detector needs."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.essh.anchors import BASE, SCALES, STRIDES
from agedge.runtime.card import Card, checksum, find_card, load_card
from agedge.runtime.checks.card_fields import check_common, check_input, check_outputs, is_number, read_json, require
from agedge.runtime.model_files import INPUT, save_model
from agedge.runtime.outputs import Outputs

ANCHORS = {stride: [BASE * scale for scale in SCALES[stride]] for stride in STRIDES}  # sides in pixels
# By the name of an output without its stride. `layout`: meaning of the channels, slowest first.
KINDS = {
    "score": {"kind": "face_probabilities", "layout": ["class", "anchor"]},
    "box": {"kind": "box_deltas", "layout": ["anchor", "coordinate"]},
    "landmarks": {"kind": "landmark_deltas", "layout": ["anchor", "coordinate"]},
}
OUTPUTS: Outputs = {
    f"{name}{stride}": {
        "kind": kind["kind"],
        "stride": stride,
        "anchors": ANCHORS[stride],
        "layout": kind["layout"],
    }
    for stride in STRIDES
    for name, kind in KINDS.items()
}
CHECKPOINT = {"symbol": "essh-symbol.json", "params": "essh-0000.params"}
log = logging.getLogger(__name__)


@dataclass
class DetectorCard(Card):
    """The card of a detector. These fields differ from those of `Card`:

    `input`: no size, since images of any size are taken, but `mean`: (R, G, B), subtracted from the pixels.
    `outputs`: for strides 32, 16, 8 probabilities (n, 4, h, w), box deltas (n, 8, h, w) and landmark deltas
        (n, 20, h, w), as `symbols.essh` has them.
    `threshold`: the default of the lowest score of a face.
    `error`: the metrics on photographs.
    """

    name: str = "essh"
    network: Dict[str, Any] = field(default_factory=dict)
    input: Dict[str, Any] = field(
        default_factory=lambda: {"name": INPUT, "channels": "RGB", "range": [0, 255], "mean": [0, 0, 0]}
    )
    outputs: Outputs = field(default_factory=lambda: dict(OUTPUTS))
    task: str = "detection"
    threshold: float = 0.5

    @property
    def mean(self) -> np.ndarray:
        """The mean (3,) float32, R, G, B, that is subtracted from the pixels."""
        return np.array(self.input.get("mean", (0, 0, 0)), np.float32)

    @classmethod
    def check_json(cls, value: Dict[str, Any]) -> None:
        """Raise `ValueError`, which names the key, if a JSON object is not a detector's card in format 2."""
        check_common(value, ("threshold",))
        check_input(value["input"], ("mean",))
        mean = value["input"]["mean"]
        require(isinstance(mean, list) and len(mean) == 3 and all(map(is_number, mean)), "input: mean", "three numbers")
        threshold = value.get("threshold", cls.threshold)
        require(is_number(threshold) and 0 < threshold < 1, "threshold", "between 0 and 1")
        outputs = value["outputs"]
        check_outputs(outputs)
        require(len(outputs) == len(OUTPUTS), "outputs", f"{len(OUTPUTS)} maps")
        for output, expected in zip(outputs, OUTPUTS.values()):
            is_same = {**expected, "name": output["name"]} == output
            require(is_same, f"outputs: {output['name']!r:.50}", f"{expected}")

    def verify(self) -> None:
        """Raise `AgedgeError` if a file of the checkpoint is missing or does not have its checksum."""
        for part in self.files.get("mxnet", {}) if self.is_read else ():
            self.path("mxnet", part)


def read_card(folder: Union[str, Path]) -> DetectorCard:
    """Return the card of a detector's folder, such as `ssh_model`, or of the run that trained it.

    A user's checkpoint may have no card: then its mean is 0. A card is ignored, with a warning, if both of its files
    were replaced. If only one file differs from its checksum, it is damaged: see `verify`. Raises `AgedgeError` if
    card.json is not the card of a detector.
    """
    bare = DetectorCard(files={"mxnet": dict(CHECKPOINT)}, folder=Path(folder))
    try:
        find_card(folder)
    except AgedgeError:
        return bare
    card = load_card(folder, DetectorCard)
    names = card.files.get("mxnet", {}).values()
    if names and all(is_replaced(card, name) for name in names):
        log.warning("%s: ignored, since the files beside it are of another model", card.find_file("card.json"))
        return bare
    return card


def find_checkpoint(card: DetectorCard) -> Tuple[Path, Path]:
    """Return the paths of a card's symbol and parameters, which need not exist."""
    files = card.files["mxnet"]
    return card.find_file(files["symbol"]), card.find_file(files["params"])


def is_detector(model: Union[str, Path]) -> bool:
    """Return whether a model folder or a run has the card of a detector."""
    try:
        return read_json(find_card(model))["task"] == DetectorCard.task
    except (AgedgeError, ValueError, KeyError, TypeError, RecursionError):
        return False


def is_replaced(card: Card, name: str) -> bool:
    """Return whether the file `name` of a card exists, but with another checksum."""
    path = card.find_file(name)
    return path.is_file() and card.sha256.get(name) not in (None, checksum(path))


def save_detector(slim: Any, card: DetectorCard, folder: Union[str, Path]) -> DetectorCard:
    """Write the detector network `slim` with its card into `folder`, as `agedge.runtime.save_model` does.

    `slim` is a Gluon HybridBlock of one input and the outputs of `card`, whose shapes are known. Writes
    essh-symbol.json, essh-0000.params and card.json; the graph takes images of any height and width.
    """
    return save_model(slim, card, folder)

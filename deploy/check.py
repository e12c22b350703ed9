"""Compare an exported model with the MXNet model on real faces, and check the differences against tolerances."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.evaluation.batches import evaluation_batches
from agedge.runtime import load_model
from agedge.runtime.card import Card, load_card
from agedge.runtime.outputs import Outputs, decode, predicts_age, predicts_gender
from deploy.isolated import run_isolated
from deploy.tolerances import TOLERANCES, compare_raw

BATCH = 64


@dataclass(frozen=True)
class Verdict:
    """The differences between a runtime and MXNet on `faces` faces; None if the network has no such output.

    `age_max`, `age_mean`: in years. `p_male_max`: the largest change of P(male). `flips`: number of changed genders.
    `fault`: the difference that exceeds its tolerance, as text, or "".
    """

    runtime: str
    faces: int
    age_max: Optional[float]
    age_mean: Optional[float]
    p_male_max: Optional[float]
    flips: Optional[int]
    fault: str

    def to_json(self) -> Dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {**self.__dict__, "ok": not self.fault}


def check_exported(
    model: Union[str, Path],
    exported: Union[str, Path],
    data: Union[str, Path],
    faces: int = 1000,
    labels: str = "auto",
    trust: bool = False,
) -> List[Verdict]:
    """Compare each format in the folder `exported` with `model` in MXNet, on the first `faces` faces of a .rec file.

    `labels`: the label layout of files of older tools. `trust`: also run files without a checksum in the card.
    Raises `AgedgeError` if a model or the data cannot be read, or if nothing was exported.
    """
    ours = load_model(model)
    card = load_card(exported)
    card_file = Path(exported) / "card.json"
    runtimes = [runtime for runtime in card.files if runtime in TOLERANCES]
    if not runtimes:
        raise AgedgeError(f"{card_file}: no exported files in it, only {', '.join(card.files) or 'a card'}")
    if card.outputs != ours.card.outputs or card.input["size"] != ours.card.input["size"]:
        raise AgedgeError(f"{card_file}: another network than {model}")
    images = read_faces(data, ours.card, faces, labels)
    raw = ours.raw_outputs(images)
    return [judge(runtime, raw, run_isolated(exported, runtime, images, trust), card.outputs) for runtime in runtimes]


def read_faces(data: Union[str, Path], card: Card, faces: int, labels: str = "auto") -> np.ndarray:
    """Read the first `faces` readable faces of a .rec file, (n, size, size, 3) BGR uint8, in the model's crop."""
    batches = evaluation_batches(Path(data), card.input["size"], BATCH, labels, card.crop)
    found = [batch.images for batch in islice(batches, (faces + BATCH - 1) // BATCH)]
    if not found:
        raise AgedgeError(f"{data}: no readable face in it")
    return np.concatenate(found)[:faces]


def judge(runtime: str, ours: Dict[str, np.ndarray], theirs: Dict[str, np.ndarray], outputs: Outputs) -> Verdict:
    """Compare the raw outputs of MXNet and of a runtime for the same faces.

    The tolerance of the largest difference applies to the raw outputs; those of the mean age difference and of
    changed genders apply to the decoded predictions.
    """
    tolerance = TOLERANCES[runtime]
    fault = tolerance.find_fault(compare_raw(ours, theirs)) if tolerance.most is not None else ""
    mine, other = decode(ours, outputs), decode(theirs, outputs)
    age_max = age_mean = p_male_max = flips = None
    if predicts_age(outputs):
        age_off = np.abs(other.age.astype(np.float64) - mine.age)
        age_max, age_mean = float(age_off.max()), float(age_off.mean())
        if tolerance.mean is not None and not age_mean <= tolerance.mean:  # also true for NaN
            fault = f"ages change by {age_mean:.3g} years on average, over the tolerance of {tolerance.mean:g}"
    if predicts_gender(outputs):
        p_male_max = float(np.abs(other.p_male - mine.p_male).max())
        flips = int((other.is_male != mine.is_male).sum())
        if tolerance.flips is not None and flips > tolerance.flips:
            fault = f"{flips} of {len(mine.p_male)} faces change gender"
    return Verdict(runtime, len(mine.age), age_max, age_mean, p_male_max, flips, fault)

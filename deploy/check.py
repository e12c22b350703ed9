"""Does an exported model say of real faces what the MXNet model says? Ages, genders, and a verdict by the gates."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.evaluation.batches import evaluation_batches
from agedge.runtime import load_model
from agedge.runtime.card import load_card
from agedge.runtime.outputs import decode, predicts_age, predicts_gender
from deploy.isolated import ask_apart
from deploy.tolerances import GATES, compare_raw

BATCH = 64


@dataclass(frozen=True)
class Verdict:
    """One runtime against MXNet: age changes in years, largest change of P(male), genders that changed, None for what
    the network does not say; `fault` is what is over the gate, or ""."""

    runtime: str
    faces: int
    age_max: Optional[float]
    age_mean: Optional[float]
    p_male_max: Optional[float]
    flips: Optional[int]
    fault: str

    def to_json(self) -> dict:
        return {**self.__dict__, "ok": not self.fault}


def check_exported(
    model, exported, data, faces: int = 1000, labels: str = "auto", trust: bool = False
) -> List[Verdict]:
    """Ask `model` in MXNet and everything that the folder `exported` holds about the first `faces` faces of a .rec.

    `trust`: ask files, too, of which the card has no checksum.
    Raises `AgedgeError` where a model or the data cannot be read, or where nothing was exported.
    """
    ours = load_model(model)
    card = load_card(exported)
    card_file = Path(exported) / "card.json"
    runtimes = [runtime for runtime in card.files if runtime in GATES]
    if not runtimes:
        raise AgedgeError(f"{card_file}: no exported files in it, only {', '.join(card.files) or 'a card'}")
    if card.outputs != ours.card.outputs or card.input["size"] != ours.card.input["size"]:
        raise AgedgeError(f"{card_file}: another network than {model}")
    images = read_faces(data, ours.card, faces, labels)
    raw = ours.raw_outputs(images)
    return [judge(runtime, raw, ask_apart(exported, runtime, images, trust), card.outputs) for runtime in runtimes]


def read_faces(data, card, faces: int, labels: str = "auto") -> np.ndarray:
    """The first `faces` readable faces of a .rec, (n, size, size, 3) BGR uint8, in the model's crop."""
    batches = evaluation_batches(Path(data), card.input["size"], BATCH, labels, card.crop)
    found = [batch.images for batch in islice(batches, (faces + BATCH - 1) // BATCH)]
    if not found:
        raise AgedgeError(f"{data}: not one readable face in it")
    return np.concatenate(found)[:faces]


def judge(runtime: str, ours: Dict[str, np.ndarray], theirs: Dict[str, np.ndarray], outputs: Dict[str, str]) -> Verdict:
    """Compare two models' raw outputs for the same faces.

    The largest difference is judged on the outputs as they are; the mean one, and genders, on what they decode to.
    """
    gate = GATES[runtime]
    fault = gate.fault(compare_raw(ours, theirs)) if gate.most is not None else ""
    mine, other = decode(ours, outputs), decode(theirs, outputs)
    age_max = age_mean = p_male_max = flips = None
    if predicts_age(outputs):
        age_off = np.abs(other.age.astype(np.float64) - mine.age)
        age_max, age_mean = float(age_off.max()), float(age_off.mean())
        if gate.mean is not None and not age_mean <= gate.mean:  # NaN is over it too
            fault = f"ages change by {age_mean:.3g} years on average, over the gate of {gate.mean:g}"
    if predicts_gender(outputs):
        p_male_max = float(np.abs(other.p_male - mine.p_male).max())
        flips = int((other.is_male != mine.is_male).sum())
        if gate.flips is not None and flips > gate.flips:
            fault = f"{flips} of {len(mine.p_male)} faces change gender"
    return Verdict(runtime, len(mine.age), age_max, age_mean, p_male_max, flips, fault)

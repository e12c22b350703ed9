"""From what a network says to years and P(male), by what the card calls its outputs.

Networks of ours have outputs `age` in years, `p_male`, or both, and some `age_group`, the probabilities of age groups.
Checkpoints of earlier MXNet trainers have one output, of one of the `FORMS`.
"""

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np

from agedge.errors import AgedgeError, UsageError, choices
from agedge.labels import is_male
from agedge.value_equality import compare_by_value

YEARS, PROBABILITY, GROUPS = "years", "probability", "probabilities of "
PAIRS = "gender logits and 100 pairs"
SCORE = "gender score, over 0.5 is male"
OURS = {"age": YEARS, "p_male": PROBABILITY}
# What the one output of an earlier checkpoint can be, by its name for `--decode`: (what the card says, numbers a face).
FORMS = {"age": (YEARS, 1), "gender": (SCORE, 1), "pairs": (PAIRS, 202)}


@compare_by_value
@dataclass(frozen=True)
class Prediction:
    """Of n faces: `age` (n,) float32 in years and `p_male` (n,) float32, the probability of being male; NaN where the
    network does not say. `groups` (n, k): the probabilities of the k age groups of its card, if it has such."""

    age: np.ndarray
    p_male: np.ndarray
    groups: Optional[np.ndarray] = None

    @property
    def is_male(self) -> np.ndarray:
        """(n,) bool."""
        return is_male(self.p_male)


def recognise_outputs(widths: Dict[str, int], hint: str = "") -> Dict[str, str]:
    """The card's `outputs` for a network without a card, whose outputs are `widths`, name -> numbers a face.

    `hint`, one of `FORMS`, is what the graph tells of a single number.
    """
    if widths == {name: 1 for name in OURS}:
        return dict(OURS)
    if list(widths.values()) == [FORMS["pairs"][1]]:
        return {name: PAIRS for name in widths}
    if hint and list(widths.values()) == [FORMS[hint][1]]:
        return {name: FORMS[hint][0] for name in widths}
    return {name: f"unknown, {width} a face" for name, width in widths.items()}


def name_outputs(widths: Dict[str, int], form: str, file) -> Dict[str, str]:
    """The card's `outputs` where the user says what the one output is. Raises `UsageError` on an unknown form,
    `AgedgeError` where it is not of that width."""
    if form not in FORMS:
        raise choices("decode", form, FORMS)
    what, width = FORMS[form]
    if list(widths.values()) != [width]:
        said = ", ".join(f"{name} ({numbers})" for name, numbers in widths.items())
        raise AgedgeError(f"{file}: outputs {said}: --decode {form} wants one of {width}")
    return {name: what for name in widths}


def is_known(name: str, what: str) -> bool:
    """Whether an output of that name, which the card calls so, can be decoded."""
    return what in (PAIRS, SCORE, YEARS) or OURS.get(name) == what or bool(group_bounds({name: what}))


def says_age(outputs: Dict[str, str]) -> bool:
    """Whether a network with these outputs answers with an age."""
    return bool({YEARS, PAIRS} & set(outputs.values()))


def says_gender(outputs: Dict[str, str]) -> bool:
    """Whether a network with these outputs answers with a gender."""
    return bool({PROBABILITY, PAIRS, SCORE} & set(outputs.values()))


def require_known(outputs: Dict[str, str], file) -> None:
    """Raises `UsageError` where nobody knows how outputs become an age or a gender."""
    if not outputs or not all(is_known(name, what) for name, what in outputs.items()):
        said = ", ".join(f"{name} ({what})" for name, what in outputs.items())
        raise UsageError(
            f"{file}: outputs {said or 'none'}: known are age (1) with p_male (1), or one of {FORMS['pairs'][1]} "
            f"numbers; say what a single one is by --decode {'|'.join(FORMS)}"
        )


def group_bounds(outputs: Dict[str, str]) -> List[Tuple[int, int]]:
    """The age groups of a network with an output `age_group`, both ends included: "0-5, 6-18, 66+" of its card as
    [(0, 5), (6, 18), (66, 120)]; [] where it has none."""
    what = outputs.get("age_group", "")
    if not what.startswith(GROUPS):
        return []
    found = [re.fullmatch(r"(\d{1,3})(?:-(\d{1,3})|\+)", group) for group in what[len(GROUPS) :].split(", ")]
    return [(int(each[1]), int(each[2] or 120)) for each in found] if all(found) else []


def decode(raw: Dict[str, np.ndarray], outputs: Dict[str, str]) -> Prediction:
    """Years, P(male) and groups from the raw outputs, name -> (n, k), of a network whose outputs are known.

    Raises `AgedgeError` where an output has another number of values a face than what it is called has.
    """
    said = {}
    for name, what in outputs.items():
        value = np.asarray(raw[name], np.float32)
        width = FORMS["pairs"][1] if what == PAIRS else len(group_bounds({name: what})) or 1
        if value.ndim != 2 or value.shape[1] != width:
            raise AgedgeError(
                f"output {name} has {value.shape[1:]} numbers a face; as '{what:.40}' it must have {width}"
            )
        if what == PAIRS:
            said["age"], said["p_male"] = decode_pairs(value)
        elif what == SCORE:
            said["p_male"] = np.clip(value.reshape(-1), 0, 1)
        elif name == "age_group":
            said["groups"] = value
        else:
            said["age" if what == YEARS else "p_male"] = value.reshape(-1)
    silent = np.full(len(next(iter(raw.values()))), np.nan, np.float32)
    return Prediction(**{"age": silent, "p_male": silent, **said})


def decode_pairs(fc: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(n, 202): two gender logits (female, male), then 100 pairs, pair k asking "older than k?". The age is the number
    of pairs that say "older", P(male) the softmax of the gender logits."""
    pairs = fc[:, 2:].reshape(-1, 100, 2)
    with np.errstate(over="ignore"):
        p_male = 1 / (1 + np.exp(fc[:, 0] - fc[:, 1]))
    return (pairs[..., 1] > pairs[..., 0]).sum(axis=1).astype(np.float32), p_male

"""Decode raw network outputs into years, P(male) and age-group probabilities, by the `outputs` of the model's card.

The networks of `symbols` have outputs `age`, `p_male` or both, and some `age_group`. Checkpoints of earlier MXNet
trainers have a single output, in one of the `FORMS`. docs/card.md has the table of kinds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError, UsageError, choices
from agedge.labels import is_male
from agedge.value_equality import compare_by_value

Output = Dict[str, Any]  # one output of a card, without its name: {"kind": "age_groups", "bounds": [[0, 5], [6, 18]]}
Outputs = Dict[str, Output]  # by name, in the order of the network

YEARS: Output = {"kind": "years"}
PROBABILITY_MALE: Output = {"kind": "probability_male"}
GENDER_SCORE: Output = {"kind": "gender_score"}
GENDER_AND_AGE_PAIRS: Output = {"kind": "gender_and_age_pairs"}
AGE_AND_GENDER: Outputs = {"age": YEARS, "p_male": PROBABILITY_MALE}
# The single output of an earlier checkpoint, by the value of `--decode`.
FORMS: Dict[str, Output] = {"age": YEARS, "gender": GENDER_SCORE, "pairs": GENDER_AND_AGE_PAIRS}
# The values per face of each kind that can be decoded; `age_groups` has one per group.
WIDTHS = {"years": 1, "probability_male": 1, "gender_score": 1, "gender_and_age_pairs": 202}


@compare_by_value
@dataclass(frozen=True)
class Prediction:
    """The predictions for n faces.

    `age` (n,) float32 in years and `p_male` (n,) float32, the probability of being male; NaN where the network has no
    such output. `groups` (n, k): the probabilities of the k age groups of the card, or None.
    """

    age: np.ndarray
    p_male: np.ndarray
    groups: Optional[np.ndarray] = None

    @property
    def is_male(self) -> np.ndarray:
        """The predicted genders (n,), bool: true where male."""
        return is_male(self.p_male)


def width_of(output: Output) -> Optional[int]:
    """Return the number of values per face of an output, or None for a kind that cannot be decoded."""
    if output["kind"] == "age_groups":
        return len(output["bounds"])
    return WIDTHS.get(output["kind"])


def describe_outputs(outputs: Outputs) -> str:
    """Return outputs as text for reports and errors: "age (years), p_male (probability_male)"."""
    return ", ".join(f"{name} ({describe_output(output)})" for name, output in outputs.items()) or "none"


def describe_output(output: Output) -> str:
    """Return an output as text, without its name: "age_groups 0-5, 6-18"."""
    text = output["kind"]
    if "bounds" in output:
        text += " " + ", ".join(f"{first}-{last}" for first, last in output["bounds"])
    if "width" in output:
        text += f", {output['width']} per face"
    return text


def recognise_outputs(widths: Dict[str, int], hint: str = "") -> Outputs:
    """Return the `outputs` of a network without a card from `widths`: {name: values per face}.

    `hint`: one of `FORMS`, the form of a single output as guessed from the graph.
    """
    if widths == {name: 1 for name in AGE_AND_GENDER}:
        return dict(AGE_AND_GENDER)
    if list(widths.values()) == [width_of(GENDER_AND_AGE_PAIRS)]:
        return {name: GENDER_AND_AGE_PAIRS for name in widths}
    if hint and list(widths.values()) == [width_of(FORMS[hint])]:
        return {name: FORMS[hint] for name in widths}
    return {name: {"kind": "unknown", "width": width} for name, width in widths.items()}


def outputs_of_form(widths: Dict[str, int], form: str, file: Union[str, Path]) -> Outputs:
    """Return the `outputs` of a network whose single output has the `form` that the user chose.

    `widths` as for `recognise_outputs`; `file` is named in errors. Raises `UsageError` for an unknown form,
    `AgedgeError` if the output has another number of values.
    """
    if form not in FORMS:
        raise choices("decode", form, FORMS)
    width = width_of(FORMS[form])
    if list(widths.values()) != [width]:
        found = ", ".join(f"{name} ({count})" for name, count in widths.items())
        raise AgedgeError(f"{file}: outputs {found}: --decode {form} needs a single output of {width} values per face")
    return {name: FORMS[form] for name in widths}


def can_decode(outputs: Outputs) -> bool:
    """Return whether there is at least one output, and `decode` supports the kinds of all."""
    return bool(outputs) and all(width_of(output) for output in outputs.values())


def predicts_age(outputs: Outputs) -> bool:
    """Return whether a network with these outputs predicts an age in years."""
    return _has_kind(outputs, "years", "gender_and_age_pairs")


def predicts_gender(outputs: Outputs) -> bool:
    """Return whether a network with these outputs predicts a gender."""
    return _has_kind(outputs, "probability_male", "gender_score", "gender_and_age_pairs")


def _has_kind(outputs: Outputs, *kinds: str) -> bool:
    return any(output["kind"] in kinds for output in outputs.values())


def require_known(outputs: Outputs, file: Union[str, Path]) -> None:
    """Raise `UsageError` if outputs cannot be decoded into an age, a gender or age groups."""
    if not can_decode(outputs):
        raise UsageError(
            f"{file}: outputs {describe_outputs(outputs)}: known are age (1) with p_male (1), or a single output of "
            f"{width_of(GENDER_AND_AGE_PAIRS)} values; give the form of a single value by --decode {'|'.join(FORMS)}"
        )


def group_bounds(outputs: Outputs) -> List[Tuple[int, int]]:
    """Return the age groups of a network as [(0, 5), (6, 18), ...], both ends included; [] if it has none."""
    for output in outputs.values():
        if output["kind"] == "age_groups":
            return [(first, last) for first, last in output["bounds"]]
    return []


def decode(raw: Dict[str, np.ndarray], outputs: Outputs) -> Prediction:
    """Decode the raw outputs {name: (n, k)} of a network whose `outputs` are known.

    Raises `AgedgeError` if an output does not have as many values per face as its kind.
    """
    decoded = {}
    for name, output in outputs.items():
        value, kind, width = np.asarray(raw[name], np.float32), output["kind"], width_of(output)
        if value.ndim != 2 or value.shape[1] != width:
            raise AgedgeError(
                f"output {name} has {value.shape[1:]} values per face; '{describe_output(output):.40}' has {width}"
            )
        if kind == "gender_and_age_pairs":
            decoded["age"], decoded["p_male"] = decode_pairs(value)
        elif kind == "gender_score":
            decoded["p_male"] = np.clip(value.reshape(-1), 0, 1)
        elif kind == "age_groups":
            decoded["groups"] = value
        else:
            decoded["age" if kind == "years" else "p_male"] = value.reshape(-1)
    absent = np.full(len(next(iter(raw.values()))), np.nan, np.float32)
    return Prediction(**{"age": absent, "p_male": absent, **decoded})


def decode_pairs(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Decode (n, 202) values into ages (n,) and P(male) (n,).

    The values are two gender logits (female, male), then 100 pairs of logits (no, yes) of "older than k years". The age
    is the number of pairs with the larger logit at "yes", P(male) the softmax of the gender logits.
    """
    pairs = values[:, 2:].reshape(-1, 100, 2)
    with np.errstate(over="ignore"):
        p_male = 1 / (1 + np.exp(values[:, 0] - values[:, 1]))
    return (pairs[..., 1] > pairs[..., 0]).sum(axis=1).astype(np.float32), p_male

"""Convert a card of format 1, whose outputs are English sentences, to format 2."""

import re
from typing import Any, Dict, List

SENTENCES = {
    "years": {"kind": "years"},
    "gender score, over 0.5 is male": {"kind": "gender_score"},
    "gender logits and 100 pairs": {"kind": "gender_and_age_pairs"},
}
GROUPS = "probabilities of "
OLDEST = 120  # the last year of an open group, "66+"
# A detector's outputs were named score32, box32, landmarks32, ... and always laid out like this.
DETECTOR_KINDS = {
    "score": {"kind": "face_probabilities", "layout": ["class", "anchor"]},
    "box": {"kind": "box_deltas", "layout": ["anchor", "coordinate"]},
    "landmarks": {"kind": "landmark_deltas", "layout": ["anchor", "coordinate"]},
}
DETECTOR_ANCHORS = {32: [512, 256], 16: [128, 64], 8: [32, 16]}  # sides in pixels, by stride


def convert_format_1(card: Dict[str, Any]) -> Dict[str, Any]:
    """Return a card of format 1 (a JSON object) as one of format 2.

    Raises `ValueError`, which names the key, if input or outputs are not those of format 1. All other checks are
    those of format 2.
    """
    for key in ("input", "outputs"):
        if not isinstance(card.get(key), dict):
            raise ValueError(f"{key}: must be an object")
    converted = {**card, "format": 2, "input": dict(card["input"])}
    converted["input"].setdefault("channels", "RGB")
    converted["input"].setdefault("range", [0, 255])
    if card.get("task") == "detection":
        converted["input"].setdefault("mean", [0, 0, 0])
        converted["outputs"] = [convert_detector_output(name) for name in card["outputs"]]
    else:
        converted["outputs"] = [convert_output(name, sentence) for name, sentence in card["outputs"].items()]
    if isinstance(card.get("crop"), dict):
        converted["crop"] = {"border": "replicate", **card["crop"]}
    training = card.get("training")
    if isinstance(training, dict) and isinstance(training.get("validation"), dict):  # the first cards had one file
        converted["training"] = {**training, "validation": [training["validation"]]}
    return converted


def convert_output(name: str, sentence: Any) -> Dict[str, Any]:
    """Return an output of a model; one that format 1 could not decode either is of the kind "unknown"."""
    if not isinstance(sentence, str):
        raise ValueError(f"outputs: {name}: must be a string")
    width = re.fullmatch(r"unknown, (\d{1,9}) a face", sentence)
    bounds = read_bounds(sentence)
    if sentence in SENTENCES:
        return {"name": name, **SENTENCES[sentence]}
    if name == "p_male" and sentence == "probability":
        return {"name": name, "kind": "probability_male"}
    if name == "age_group" and bounds:
        return {"name": name, "kind": "age_groups", "bounds": bounds}
    return {"name": name, "kind": "unknown", **({"width": int(width[1])} if width else {})}


def read_bounds(sentence: str) -> List[List[int]]:
    """Return [[0, 5], [66, 120]] from "probabilities of 0-5, 66+"; [] if the sentence is not of that form."""
    if not sentence.startswith(GROUPS):
        return []
    found = [re.fullmatch(r"(\d{1,3})(?:-(\d{1,3})|\+)", group) for group in sentence[len(GROUPS) :].split(", ")]
    return [[int(each[1]), int(each[2] or OLDEST)] for each in found if each] if all(found) else []


def convert_detector_output(name: str) -> Dict[str, Any]:
    """Return an output of a detector, such as "score32". Raises `ValueError` for any other name."""
    found = re.fullmatch(r"(score|box|landmarks)(32|16|8)", name)
    if not found:
        raise ValueError(f"outputs: unknown output {name!r:.50} of a detector")
    stride, kind = int(found[2]), DETECTOR_KINDS[found[1]]
    return {
        "name": name,
        "kind": kind["kind"],
        "stride": stride,
        "anchors": DETECTOR_ANCHORS[stride],
        "layout": kind["layout"],
    }

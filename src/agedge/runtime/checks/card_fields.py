"""Read card.json and check its fields, as `card.schema.json` describes them.

The checks go further than the schema where JSON Schema cannot express a rule: finite numbers, lists of equal length,
rising ages, unique names of outputs, and keys that occur twice.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, Dict, Sequence

MOST_BYTES = 8 << 20  # of a card; the shipped ones have 5 KB
MOST_SIDE = 1024  # pixels of a face; the shipped networks take 64 to 224
LONGEST_NAME = 200  # bytes of a file name: file systems end at 255, and a temporary name is longer
RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", re.IGNORECASE)  # devices on Windows, with any suffix
# The files of each runtime.
FILES = {
    "mxnet": ("symbol", "params"),
    "onnx": ("model",),
    "ncnn": ("param", "bin"),
    "ncnn-fp16": ("param", "bin"),
}
REQUIRED = ("name", "network", "input", "outputs", "crop")
OPTIONAL = ("task", "files", "sha256", "blobs", "training", "terms", "error", "interval")
# Further keys of each kind of output, required for all but "unknown".
KINDS = {
    "years": (),
    "probability_male": (),
    "age_groups": ("bounds",),
    "gender_score": (),
    "gender_and_age_pairs": (),
    "unknown": ("width",),
}
TRAINING = {
    **{key: list for key in ("train", "validation", "test")},
    **{key: int for key in ("epochs", "epoch", "best_epoch", "scenes")},
    **{key: dict for key in ("recipe", "imported")},
    **{key: str for key in ("tool", "notes")},
}
TYPES = {list: "a list", int: "an integer", dict: "an object", str: "a string"}


def read_json(path: Path) -> Any:
    """Return the value of a JSON file. Raises `ValueError` if it is too large or an object has a key twice."""

    def make_object(pairs: list) -> dict:
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
            raise ValueError(f"key {twice!r:.50} occurs twice")
        return value

    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"over {MOST_BYTES >> 20} MB")
    return json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=make_object)


def require(condition: bool, key: str, what: str) -> None:
    """Raise `ValueError` "KEY: must be WHAT" unless the condition holds."""
    if not condition:
        raise ValueError(f"{key}: must be {what}")


def is_integer(value: Any) -> bool:
    """Return whether a JSON value is an integer, not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number, not a boolean."""
    return is_integer(value) or isinstance(value, float) and math.isfinite(value)


def check_keys(value: Any, key: str, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raise `ValueError` if a value is not an object with all of `required` and nothing but `optional` beside."""
    require(isinstance(value, dict), key, "an object")
    for name in required:
        if name not in value:
            raise ValueError(f"{key}: {name} is missing")
    for name in value:
        if name not in (*required, *optional):
            raise ValueError(f"{key}: unknown key {name!r:.50}")


def check_common(card: Dict[str, Any], optional: Sequence[str] = ()) -> None:
    """Check what cards of all tasks share; `optional`: further keys of the card's task."""
    check_keys(card, "card", REQUIRED, ("format", *OPTIONAL, *optional))
    for key in ("network", "input", "files", "sha256", "blobs", "interval", "error", "training"):
        require(isinstance(card.get(key, {}), dict), key, "an object")
    require_plain_name(card["name"], "name")
    require(isinstance(card["network"].get("name", ""), str), "network: name", "a string")
    require(isinstance(card.get("terms", ""), str), "terms", "a string")
    check_files(card.get("files", {}), card.get("sha256", {}), card.get("blobs", {}))
    check_crop(card["crop"])
    check_interval(card.get("interval", {}))
    check_error(card.get("error", {}))
    check_training(card.get("training", {}))


def check_files(files: Dict[str, Any], sha256: Dict[str, Any], blobs: Dict[str, Any]) -> None:
    """Check the names of the files by runtime, their checksums by name, and the blob names by runtime."""
    for runtime, parts in files.items():
        require(runtime in FILES, f"files: {runtime!r:.50}", f"one of {', '.join(FILES)}")
        check_keys(parts, f"files: {runtime}", FILES[runtime])
        for part, name in parts.items():
            require_plain_name(name, f"files: {runtime}: {part}")
    for name, digest in sha256.items():
        is_digest = isinstance(digest, str) and bool(re.fullmatch("[0-9a-f]{64}", digest))
        require(is_digest, f"sha256: {name!r:.100}", "64 hexadecimal digits")
    for runtime, names in blobs.items():
        require(runtime in FILES, f"blobs: {runtime!r:.50}", f"one of {', '.join(FILES)}")
        are_names = isinstance(names, dict) and all(isinstance(blob, str) for blob in names.values())
        require(are_names, f"blobs: {runtime}", "an object of blob names")


def check_input(value: Dict[str, Any], required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Check what the inputs of all tasks share, and that the task's own keys are there."""
    check_keys(value, "input", ("name", "channels", "range", *required), optional)
    require(isinstance(value["name"], str) and bool(value["name"]), "input: name", "a non-empty string")
    require(value["channels"] == "RGB", "input: channels", '"RGB"')
    require(value["range"] == [0, 255], "input: range", "[0, 255]")


def check_model_input(value: Dict[str, Any]) -> None:
    """Check the input of a network for faces: a square of `size` pixels, and further constant inputs."""
    check_input(value, ("size",), ("constants",))
    size = value["size"]
    require(is_integer(size) and 0 < size <= MOST_SIDE, "input: size", f"an integer from 1 to {MOST_SIDE}")
    constants = value.get("constants", {})
    require(isinstance(constants, dict), "input: constants", "an object")
    for name, numbers in constants.items():
        require(isinstance(numbers, list) and are_numbers(numbers), f"input: constants: {name}", "a list of numbers")


def are_numbers(value: Any) -> bool:
    """Return whether a value is a finite number, or a list of such lists and numbers."""
    return all(map(are_numbers, value)) if isinstance(value, list) else is_number(value)


def check_model_outputs(outputs: Any) -> None:
    """Check the outputs of a network for faces: a list of objects with a unique `name`, a `kind` and its keys."""
    check_outputs(outputs)
    for output in outputs:
        key = f"outputs: {output['name']}"
        require(output["kind"] in KINDS, f"{key}: kind", f"one of {', '.join(KINDS)}")
        keys = KINDS[output["kind"]]
        is_unknown = output["kind"] == "unknown"
        check_keys(output, key, ("name", "kind", *(() if is_unknown else keys)), keys)
        if "bounds" in output:
            bounds = output["bounds"]
            are_pairs = isinstance(bounds, list) and all(isinstance(each, list) and len(each) == 2 for each in bounds)
            require(are_pairs and bool(bounds), f"{key}: bounds", "a list of [first, last] years")
            years = [year for each in bounds for year in each]
            require(all(is_integer(year) and year >= 0 for year in years), f"{key}: bounds", "whole years")
            require(all(first <= last for first, last in bounds), f"{key}: bounds", "from the first to the last year")
        if "width" in output:
            require(is_integer(output["width"]) and output["width"] > 0, f"{key}: width", "a positive integer")


def check_outputs(outputs: Any) -> None:
    """Check what the outputs of all tasks share: a non-empty list of objects with unique names and a kind."""
    require(isinstance(outputs, list) and bool(outputs), "outputs", "a non-empty list")
    for output in outputs:
        require(isinstance(output, dict), "outputs", "a list of objects")
        for name in ("name", "kind"):
            require(isinstance(output.get(name), str) and bool(output[name]), f"outputs: {name}", "a non-empty string")
    require(len({output["name"] for output in outputs}) == len(outputs), "outputs: name", "unique")


def check_crop(crop: Any) -> None:
    """Check the crop: null, or the side of the image and where its five landmarks lie."""
    if crop is None:
        return
    check_keys(crop, "crop", ("size", "points", "border"))
    require(is_integer(crop["size"]) and crop["size"] > 0, "crop: size", "a positive integer")
    points = crop["points"]
    are_points = isinstance(points, list) and len(points) == 5
    are_points = are_points and all(isinstance(point, list) and len(point) == 2 for point in points)
    require(are_points and are_numbers(points), "crop: points", "five [x, y] in pixels")
    require(crop["border"] == "replicate", "crop: border", '"replicate"')


def check_interval(interval: Dict[str, Any]) -> None:
    """Check the interval: an empty object, or a level and three lists of equally many numbers, ages rising."""
    if not interval:
        return
    check_keys(interval, "interval", ("level", "age", "low", "high"))
    require(is_number(interval["level"]) and 0 < interval["level"] < 1, "interval: level", "between 0 and 1")
    for name in ("age", "low", "high"):
        numbers = interval[name]
        are_many = isinstance(numbers, list) and bool(numbers) and all(map(is_number, numbers))
        require(are_many, f"interval: {name}", "a non-empty list of numbers")
        require(len(numbers) == len(interval["age"]), f"interval: {name}", "as long as age")
    ages = interval["age"]
    require(all(one <= other for one, other in zip(ages, ages[1:])), "interval: age", "rising")


def check_error(error: Dict[str, Any]) -> None:
    """Check the metrics: numbers, null where nothing was measured, texts, and rows of those by group."""

    def is_metric(value: Any) -> bool:
        return value is None or isinstance(value, (str, float)) or is_integer(value)

    for key, value in error.items():
        for row in value if isinstance(value, list) else [value]:
            is_row = isinstance(row, dict) and all(map(is_metric, row.values()))
            require(
                is_row or not isinstance(value, list) and is_metric(row), f"error: {key}", "a metric or rows of such"
            )


def check_training(training: Dict[str, Any]) -> None:
    """Check the types of the training record's known keys; it may have others."""
    for key, value in training.items():
        if key in TRAINING:
            of_type = is_integer(value) if TRAINING[key] is int else isinstance(value, TRAINING[key])
            require(of_type, f"training: {key}", TYPES[TRAINING[key]])
            if TRAINING[key] is list:
                require(all(isinstance(each, dict) for each in value), f"training: {key}", "a list of objects")


def require_plain_name(name: Any, key: str) -> None:
    """Raise `ValueError` if `name` is not a file name on every system: no folder, drive or control character."""
    if not isinstance(name, str) or not name.strip(" .") or not name.isprintable():
        raise ValueError(f"{key}: must be a plain file name")
    if set(name) & set('/\\:*?"<>|') or name[-1] in " ." or name.lower() == "card.json":
        raise ValueError(f"{key}: {name!r:.100} is not a plain file name")
    if len(name.encode("utf-8")) > LONGEST_NAME or RESERVED.fullmatch(name.split(".")[0].strip()):
        raise ValueError(f"{key}: {name!r:.100} is not a file name on every system")

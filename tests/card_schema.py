"""Check card.json files with the JSON Schema that the package ships, where `jsonschema` is installed."""

import json
from importlib.resources import files

import pytest


def load_schema() -> dict:
    """Return the schema of cards."""
    return json.loads((files("agedge.runtime") / "card.schema.json").read_text(encoding="utf-8"))


def find_faults(value) -> list:
    """Return the messages of the schema's faults in a JSON value; skips the test where `jsonschema` is absent."""
    jsonschema = pytest.importorskip("jsonschema")
    return [error.message for error in jsonschema.Draft202012Validator(load_schema()).iter_errors(value)]


def assert_valid(folder) -> dict:
    """Assert that the card in a folder is valid by the schema. Returns its JSON object."""
    value = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert find_faults(value) == []
    return value

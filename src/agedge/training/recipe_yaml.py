"""Reading the YAML of a recipe, which may come from anybody: its size, its depth and its aliases are limited."""

import re
from pathlib import Path
from typing import Any

import yaml

from agedge.errors import AgedgeError

MOST_BYTES = 1_000_000  # of a recipe; those of recipes/ have up to 3,000
MOST_NODES = 20_000  # values in a recipe; those that an alias repeats are counted again
DEEPEST = 20  # sections within sections


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.1, but 1e-3 is a number, not a text. A key that is given twice, an alias that expands to very many values,
    and deep nesting are errors."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(None, None, "nested too deeply", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            count_nodes(node, {}, set())
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return node


RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def count_nodes(node: yaml.Node, counted: dict, above: set) -> int:
    """Count the values of a YAML node, aliases followed.

    Raises `yaml.MarkedYAMLError` where the node contains itself, is nested too deeply, or has too many values.
    """
    if node in above or len(above) > DEEPEST:
        problem = "a value contains itself" if node in above else "nested too deeply"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    if node not in counted:
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        inner = [one for pair in inner for one in (pair if isinstance(pair, tuple) else (pair,))]
        counted[node] = 1 + sum(count_nodes(one, counted, above | {node}) for one in inner)
    if counted[node] > MOST_NODES:
        raise yaml.MarkedYAMLError(None, None, f"more than {MOST_NODES:,} values", node.start_mark)
    return counted[node]


def load_yaml(text: str) -> Any:
    """Parse a YAML text. Raises `ValueError`, with the line."""
    try:
        return yaml.load(text, RecipeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ValueError(f"line {line}: the character #x{error.character:04x} is not allowed") from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # PyYAML fails with other errors where a tag such as !!bool stands before a value of another type.
        raise ValueError(f"a value is not of its tag's type ({type(error).__name__})") from None


def read_recipe(path: Path) -> dict:
    """Return the content of a YAML file. Raises `AgedgeError` if it is not a recipe, with the line if known."""
    content = b""
    try:
        if path.is_dir():
            raise AgedgeError(f"{path}: is a folder, not a recipe")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise AgedgeError(f"{path}: larger than {MOST_BYTES:,} bytes: not a recipe")
        given = load_yaml(content.decode("utf-8-sig"))
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such recipe") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AgedgeError(f"{path}: not YAML: line {line} is not UTF-8") from None
    except ValueError as error:
        raise AgedgeError(f"{path}: not YAML: {error}") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise AgedgeError(f"{path}: a recipe must be a mapping of sections")
    return given

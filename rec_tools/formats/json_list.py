"""Read a JSON list item by item, to limit the memory for long lists.

The package ijson does the same, but fails on NaN, which Python's `json.dump` writes for a missing number, and does not
limit the memory of one item.
"""

import json
import re
from pathlib import Path
from typing import Any, Iterator, TextIO, Union

from agedge.errors import AgedgeError

LONGEST = 1 << 16  # characters of one item

_SPACE = re.compile(r"\s*")


def read_items(file: Union[str, Path]) -> Iterator[Any]:
    """Yield the items of a file that is one JSON list. Raises `AgedgeError` if it is damaged or not a list."""
    try:
        with open(file, encoding="utf-8-sig") as stream:
            yield from _parse(stream)
    except FileNotFoundError:
        raise AgedgeError(f"{file}: missing") from None
    except OSError as error:
        raise AgedgeError(f"{file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise AgedgeError(f"{file}: damaged, or not a JSON list ({error})") from None


def _parse(stream: TextIO) -> Iterator[Any]:
    decoder, text, at, mark = json.JSONDecoder(), "", 0, "["
    while True:
        if len(text) - at < 2 * LONGEST:  # then an item is incomplete only if the file is
            text, at = text[at:] + stream.read(2 * LONGEST), 0
        at = _skip_space(text, at)
        if mark == "," and text[at : at + 1] == "]":
            break
        if text[at : at + 1] != mark:
            raise ValueError(f"'{mark}' expected" if at < len(text) else "it ends early")
        at = _skip_space(text, at + 1)
        if mark == "[" and text[at : at + 1] == "]":
            break
        item, at = decoder.raw_decode(text, at)
        yield item
        mark = ","
    if text[at + 1 :].strip():
        raise ValueError("text after the list")


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match  # the pattern also matches the empty string
    return match.end()

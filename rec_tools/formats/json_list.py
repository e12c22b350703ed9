"""A JSON list, read item by item: of any length, in little memory."""

import json
import re
from typing import Iterator

from agedge.errors import AgedgeError

LONGEST = 1 << 16  # characters that one item may have

_SPACE = re.compile(r"\s*")


def read_items(file) -> Iterator:
    """The items of a file that is one JSON list. Raises `AgedgeError` where it is missing, or turns out to be none."""
    try:
        with open(file, encoding="utf-8-sig") as stream:
            yield from _parse(stream)
    except FileNotFoundError:
        raise AgedgeError(f"{file}: missing") from None
    except OSError as error:
        raise AgedgeError(f"{file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise AgedgeError(f"{file}: broken, or no JSON list ({error})") from None


def _parse(stream) -> Iterator:
    decoder, text, at, mark = json.JSONDecoder(), "", 0, "["
    while True:
        if len(text) - at < 2 * LONGEST:  # so that an item is never cut, but at the end of a cut file
            text, at = text[at:] + stream.read(2 * LONGEST), 0
        at = _SPACE.match(text, at).end()
        if mark == "," and text[at : at + 1] == "]":
            break
        if text[at : at + 1] != mark:
            raise ValueError(f"'{mark}' expected" if at < len(text) else "it ends early")
        at = _SPACE.match(text, at + 1).end()
        if mark == "[" and text[at : at + 1] == "]":
            break
        item, at = decoder.raw_decode(text, at)
        yield item
        mark = ","
    if text[at + 1 :].strip():
        raise ValueError("text after the list")

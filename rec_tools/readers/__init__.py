"""Readers: one small file a data set, from the folder as it is distributed to rows.

A reader module has `read(root, **options) -> Rows`, `SOURCE` and `TERMS`. It may have
- `find_crop(root) -> (template, margin)` of `agedge.crop`, or None, where the set's images are already aligned;
- `ALIGN`, how its faces are cut where nobody says otherwise ("none": the whole image);
- `find_images(root, **options)`, the folder that no image lies outside of, where that is not the root.
"""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Iterable, get_args, get_type_hints

from agedge.errors import UsageError, choices

DATASETS = (
    "adience",
    "afad",
    "age_gender_csv",
    "agedb",
    "appa_real",
    "benchmark",
    "cacd2000",
    "drawn",
    "faces",
    "fairface",
    "fgnet",
    "imdb_clean",
    "imdb_wiki",
    "megaage_asian",
    "npz",
    "utkface",
)


def find_reader(dataset: str):
    """The module that reads a data set. Raises `UsageError` that lists the choices."""
    if dataset not in DATASETS:
        raise choices("dataset", dataset, DATASETS)
    return import_module(f"rec_tools.readers.{dataset}")


def parse_options(reader, words: Iterable[str]) -> dict:
    """The arguments of `reader.read` from "key=value" words, each as the kind that its annotation says.

    Raises `UsageError` on a key that the reader does not have, and on a value of another kind.
    """
    known = [name for name, one in inspect.signature(reader.read).parameters.items() if one.kind is one.KEYWORD_ONLY]
    hints, options = get_type_hints(reader.read), {}
    for word in words:
        key, separator, text = word.partition("=")
        if key not in known or not separator:
            has = f"its options are {', '.join(known)}" if known else "it has no options"
            raise UsageError(f"{reader.__name__.rpartition('.')[2]}: unknown option '{word}'; {has}, as key=value")
        options[key] = _convert(key, text, hints[key])
    return options


def _convert(key: str, text: str, hint):
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    if not all(isinstance(kind, type) for kind in kinds):  # Literal["real", "apparent"]
        if text not in kinds:
            raise choices(key, text, kinds)
        return text
    kind = kinds[0]
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}[kind]
        raise UsageError(f"{key}={text}: {wanted} is wanted") from None

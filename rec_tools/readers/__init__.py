"""Readers: one file per data set, which turns the folder as it is distributed into rows.

To add a data set:
1. Write `readers/NAME.py` with `SOURCE` and `TERMS` (texts for NAME.json and model cards) and
   `read(root: Path, *, option: type = default) -> Rows`. Keyword arguments are the command's KEY=VALUE options.
2. `read` yields a `Row` per face, or `Dropped(id, reason, detail)`, in an order that depends on the data set alone. It
   raises `AgedgeError` if the folder is not of this data set. `formats` has the parts: `find_tables`, `read_table` and
   `read_label` for tables, `read_images` for labels in file names, `load_columns` for Matlab files.
3. Add NAME to `DATASETS`, a section to docs/datasets.md, and a test on a small folder laid out as the data set.
Optional: `ALIGN`, the default of --align ("set": by the row's landmarks or box); `find_crop(root)`, the (template,
margin) of images that are already aligned; `find_images(root, **options)`, the folder of the images if it is not root.
"""

import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterable, get_args, get_type_hints

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


def find_reader(dataset: str) -> ModuleType:
    """Return the module that reads a data set. Raises `UsageError` that lists the choices."""
    if dataset not in DATASETS:
        raise choices("dataset", dataset, DATASETS)
    return import_module(f"rec_tools.readers.{dataset}")


def parse_options(reader: ModuleType, words: Iterable[str]) -> Dict[str, Any]:
    """Parse "key=value" words into keyword arguments of `reader.read`, converted to the annotated types.

    Raises `UsageError` for a key that the reader does not have, and for a value of another type.
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


def _convert(key: str, text: str, hint: Any) -> Any:
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    if not all(isinstance(kind, type) for kind in kinds):  # Literal["real", "apparent"]
        if text not in kinds:
            raise choices(key, text, kinds)
        return text
    kind = kinds[0]
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        name = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}[kind]
        raise UsageError(f"{key}={text}: must be {name}") from None

"""Readers: one small file a data set, from the folder as it is distributed to rows.

A reader module has `read(root, **options) -> Rows`, `SOURCE` and `TERMS`; and where its images are already aligned,
`find_crop(root) -> (template, margin)` of `agedge.faces.crop`, or None.
"""

from importlib import import_module

from agedge.errors import choices

DATASETS = ("drawn", "faces", "imdb_wiki", "utkface")


def find_reader(dataset: str):
    """The module that reads a data set. Raises `UsageError` that lists the choices."""
    if dataset not in DATASETS:
        raise choices("dataset", dataset, DATASETS)
    return import_module(f"rec_tools.readers.{dataset}")

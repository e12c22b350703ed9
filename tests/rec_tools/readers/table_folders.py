"""Folders of data sets that come as tables, and what their readers make of them."""

from rec_tools.readers import parse_options
from rec_tools.rows import Dropped, Row


def lay_out(root, files):
    """Write {path: text} under `root`."""
    assert not any(path.startswith("/") for path in files)
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


def read(reader, root, *words):
    """(rows by id, reasons by id)."""
    found = list(reader.read(root, **parse_options(reader, words)))
    rows = {one.id: one for one in found if isinstance(one, Row)}
    reasons = {one.id: one.reason for one in found if isinstance(one, Dropped)}
    assert len(rows) + len(reasons) == len(found)
    return rows, reasons

"""Data sets whose labels stand in the names of their images: each image becomes a row, or is dropped for a reason."""

from typing import Callable

from agedge.errors import AgedgeError
from agedge.labels import MAX_AGE, exact
from rec_tools.folder import list_images
from rec_tools.rows import Dropped, Row, Rows


def read_images(root, read_path: Callable, layout: str, folder: str = "") -> Rows:
    """`read_path(path)` of every image in `root/folder`, paths relative to `root`, in the order of `list_images`.

    Raises `AgedgeError` that says the `layout` wanted where there is no image at all.
    """
    empty = True
    for path in list_images(root, folder):
        empty = False
        yield path if isinstance(path, Dropped) else read_path(path)
    if empty:
        raise AgedgeError(f"{root}: no {layout}")


def exact_row(id: str, image, gender: int, age: float, **more):
    """A `Row` with an age in years and `more` of its fields, or `Dropped` where nobody is of that age."""
    try:
        return Row(id, image, exact(gender, age), **more)
    except ValueError as error:
        return Dropped(id, f"age outside 0 to {MAX_AGE}", str(error))

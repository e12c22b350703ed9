"""Data sets whose labels stand in the names of their images: each image becomes a row, or is dropped for a reason."""

from collections import Counter
from typing import Callable, List

from agedge.errors import AgedgeError
from agedge.folders import describe
from agedge.labels import MAX_AGE, exact
from rec_tools.formats.image_folder import list_images
from rec_tools.rows import Dropped, Row, Rows


def read_images(root, read_path: Callable, layout: str, folder: str = "") -> Rows:
    """Yield `read_path(path)` of every image in `root/folder`, paths relative to `root`, in the order of `list_images`,
    and at the end the files that are not images by their names, as `Dropped`.

    Raises `AgedgeError` that names the `layout` where there is no image at all.
    """
    left_out: List[Dropped] = []
    empty = True
    for path in list_images(root, folder, left_out):
        empty = False
        yield path if isinstance(path, Dropped) else read_path(path)
    if empty:
        kinds = describe(Counter(file.detail for file in left_out))
        raise AgedgeError(f"{root}: no {layout}" + (f"; {len(left_out)} other files: {kinds}" if left_out else ""))
    yield from left_out


def exact_row(id: str, image, gender: int, age: float, **more):
    """A `Row` with an age in years and `more` of its fields, or `Dropped` where nobody is of that age."""
    try:
        return Row(id, image, exact(gender, age), **more)
    except ValueError as error:
        return Dropped(id, f"age outside 0 to {MAX_AGE}", str(error))

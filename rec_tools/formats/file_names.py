"""Read data sets whose labels are in the file names of their images."""

from collections import Counter
from pathlib import Path
from typing import Any, Callable, List, Union

from agedge.errors import AgedgeError
from agedge.folders import describe_counts
from agedge.labels import MAX_AGE, exact
from rec_tools.formats.image_folder import list_images
from rec_tools.rows import Dropped, Row, Rows


def read_images(
    root: Union[str, Path], read_path: Callable[[str], Union[Row, Dropped]], layout: str, folder: str = ""
) -> Rows:
    """Yield `read_path(path)` of every image in `root/folder`, paths relative to `root`, in the order of `list_images`,
    and at the end the files that are not images by their names, as `Dropped`.

    Raises `AgedgeError` that names the expected `layout` if there is no image.
    """
    left_out: List[Dropped] = []
    empty = True
    for path in list_images(root, folder, left_out):
        empty = False
        yield path if isinstance(path, Dropped) else read_path(path)
    if empty:
        kinds = describe_counts(Counter(file.detail for file in left_out))
        raise AgedgeError(f"{root}: no {layout}" + (f"; {len(left_out)} other files: {kinds}" if left_out else ""))
    yield from left_out


def exact_row(id: str, image: Union[Path, bytes], gender: int, age: float, **more: Any) -> Union[Row, Dropped]:
    """Return a `Row` with an age in years and `more` of its fields, or `Dropped` if the age is out of range."""
    try:
        return Row(id, image, exact(gender, age), **more)
    except ValueError as error:
        return Dropped(id, f"age outside 0 to {MAX_AGE}", str(error))

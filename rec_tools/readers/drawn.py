"""Faces drawn by code, in a folder laid out as IMDB-WIKI; the folder is drawn if it does not exist yet."""

import json
from pathlib import Path
from typing import Any, Optional, Tuple

from agedge.errors import AgedgeError
from rec_tools.drawn.folder import NOTE, VERSION, write_folder
from rec_tools.drawn.pen import MARGIN
from rec_tools.readers import imdb_wiki
from rec_tools.rows import Rows

SOURCE = "drawn"
TERMS = "Drawn by agedge's own code: MIT, as the code; no person is shown."


def find_crop(root: Path) -> Tuple[str, float]:
    """Return the (template, margin) of the images, which are aligned up to a small jitter of the pose."""
    return "arcface", MARGIN


def read(
    root: Path, *, faces: Optional[int] = None, seed: Optional[int] = None, name: Optional[str] = None, **options: Any
) -> Rows:
    """Yield drawn faces as `imdb_wiki.read` does; `options` are that reader's. Defaults of a folder that must be drawn:
    3,000 faces, seed 0, "imdb".

    Raises `AgedgeError` if `root` holds something else, or was drawn with another number of faces, seed or name.
    """
    root = Path(root)
    given = {"name": name, "faces": faces, "seed": seed}
    wanted = {"version": VERSION, **{key: value for key, value in given.items() if value is not None}}
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        write_folder(root, 3000 if faces is None else faces, seed or 0, name or "imdb")
    try:
        note = json.loads((root / NOTE).read_text(encoding="utf-8"))
        found = {key: note[key] for key in wanted}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgedgeError(f"{root}: not a folder of drawn faces (no valid {NOTE} in it)") from error
    if found != wanted:
        differs = [f"{key}={found[key]} instead of {wanted[key]}" for key in wanted if found[key] != wanted[key]]
        raise AgedgeError(f"{root}: was drawn with {', '.join(differs)}; remove it, or give another folder")
    return imdb_wiki.read(root, **options)

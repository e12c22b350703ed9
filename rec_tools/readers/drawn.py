"""Faces drawn by code, read through the door of IMDB-WIKI; the folder is drawn where there is none yet."""

import json
from pathlib import Path
from typing import Optional

from agedge.errors import AgedgeError
from rec_tools.drawn.folder import NOTE, VERSION, write_folder
from rec_tools.drawn.pen import MARGIN
from rec_tools.readers import imdb_wiki
from rec_tools.rows import Rows

SOURCE = "drawn"
TERMS = "Drawn by agedge's own code: MIT, as the code; no person is shown."


def find_crop(root: Path):
    """(template, margin) of `agedge.crop`: the images are aligned as drawn, but for a small jitter of pose."""
    return "arcface", MARGIN


def read(
    root: Path, *, faces: Optional[int] = None, seed: Optional[int] = None, name: Optional[str] = None, **options
) -> Rows:
    """Drawn rows as `imdb_wiki.read` gives them; `options` are that reader's. What is not given is as the folder has
    it, and 3,000 faces, seed 0 and "imdb" where it is still to be drawn.

    Raises `AgedgeError` where `root` holds something else, or faces of another number, seed or name than given.
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
        raise AgedgeError(f"{root}: no folder of drawn faces (there is no good {NOTE} in it)") from error
    if found != wanted:
        differs = [f"{key}={found[key]} instead of {wanted[key]}" for key in wanted if found[key] != wanted[key]]
        raise AgedgeError(f"{root}: was drawn with {', '.join(differs)}; remove it, or name another folder")
    return imdb_wiki.read(root, **options)

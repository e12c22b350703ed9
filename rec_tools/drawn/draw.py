"""The verb `draw`: a folder of drawn faces, and a sheet of some to look at."""

from pathlib import Path
from typing import Optional

from rec_tools.drawn.folder import write_folder
from rec_tools.drawn.sheet import write_sheet


def draw(out: Path, faces: int = 3000, seed: int = 0, name: str = "imdb", sheet: Optional[Path] = None) -> None:
    """Draw an IMDB-WIKI folder of `faces` rows into `out`; `sheet` names a PNG of faces by age and gender."""
    write_folder(Path(out), faces, seed, name)
    if sheet is not None:
        write_sheet(Path(sheet), seed=seed)

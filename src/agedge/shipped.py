"""Find the models, detectors and recipes that come with the code, from any working folder."""

import logging
from pathlib import Path
from typing import Union

ROOT = Path(__file__).resolve().parents[2]  # the clone, if the package is installed from one
FOLDERS = ("models", "ssh_model", "recipes")
log = logging.getLogger(__name__)


def find_shipped(path: Union[str, Path]) -> Union[str, Path]:
    """Return the path in the clone of a shipped file or folder, such as models/mobilenet025.

    `path` is returned unchanged if it exists in the working folder, does not begin with one of `FOLDERS`, or does not
    exist in the clone.
    """
    parts = Path(path).parts
    is_shipped = bool(parts) and parts[0] in FOLDERS and ".." not in parts and (ROOT / path).exists()
    if not is_shipped or Path(path).exists():
        return path
    log.info("%s: not in this folder; using %s", path, ROOT / path)
    return str(ROOT / path)

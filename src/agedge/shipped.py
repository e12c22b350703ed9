"""Models, detectors and recipes that come with the code, found from any folder."""

import logging
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the clone, where the package is installed from one
FOLDERS = ("models", "ssh_model", "recipes")
log = logging.getLogger(__name__)


def find_shipped(path):
    """Return where `path`, such as models/mobilenet025, lies in the clone, unless it exists in the current folder.

    A path that is not under one of `FOLDERS`, or does not exist in the clone either, comes back as it is.
    """
    parts = Path(path).parts
    is_shipped = bool(parts) and parts[0] in FOLDERS and ".." not in parts and (ROOT / path).exists()
    if not is_shipped or Path(path).exists():
        return path
    log.info("%s: not in this folder; used: %s", path, ROOT / path)
    return str(ROOT / path)

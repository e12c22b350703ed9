"""Models, detectors and recipes that come with the code, found from any folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the clone, where the package is installed from one
FOLDERS = ("models", "ssh_model", "recipes")


def find_shipped(path: str) -> str:
    """Return where `path`, such as models/mobilenet025, lies in the clone, unless it exists in the current folder.

    A path that does not exist in the clone, or not under one of `FOLDERS`, comes back as it is.
    """
    parts = Path(path).parts
    if parts and parts[0] in FOLDERS and ".." not in parts and not Path(path).exists() and (ROOT / path).exists():
        return str(ROOT / path)
    return path

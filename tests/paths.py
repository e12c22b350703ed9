"""Folders that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # real faces and existing checkpoints: a test skips where the folder is absent

"""Read every file that once broke a reader: it is read or refused with one line, within limits of time and memory.

The readers run in a child process (`read_corpus.py`): a crash ends that process.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus_files import make_files
from tests.paths import ROOT

CORPUS = ROOT / "tests" / "corpus"
READER = Path(__file__).with_name("read_corpus.py")
GENERATED = make_files()
TARGETS = sorted({*GENERATED, *(path.name for path in CORPUS.iterdir() if path.is_dir())} - {"image_pairs"})
MAX_SECONDS, MAX_MEMORY = 5, 1000  # processor time per file; MB, of which MXNet itself takes 300


def replay(target: str, files: list, folder: Path) -> list:
    """Return a report for each file that a reader got; the process must survive all of them."""
    command = [sys.executable, str(READER), target, *map(str, files)]
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT)))  # without it, tests/rec_tools hides the package rec_tools
    environment = {**os.environ, "PYTHONPATH": path}
    timeout = MAX_SECONDS * len(files) + 60
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"file"')]
    assert done.returncode == 0, f"{files[len(lines)]}: status {done.returncode}: {done.stderr[-800:]}"
    assert [line["file"] for line in lines] == [file.name for file in files]
    return lines


@pytest.mark.parametrize("target", TARGETS)
def test_every_file_that_broke_a_reader_is_read_or_refused(target, tmp_path):
    files = sorted(path for path in (CORPUS / target).glob("*") if path.is_file())
    for name, content in GENERATED.get(target, {}).items():
        files.append(tmp_path / name)
        files[-1].write_bytes(content)
    for line in replay(target, files, tmp_path):
        assert line["seconds"] < MAX_SECONDS and line["memory"] < MAX_MEMORY, line
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("pair", sorted((CORPUS / "image_pairs").iterdir()), ids=lambda pair: pair.name)
def test_damaged_images_do_not_change_the_next_one(pair, tmp_path):
    from agedge.sources import decode_image

    sample = ROOT / "docs" / "pictures" / "grace_hopper.jpg"
    before = decode_image(sample.read_bytes())
    replay("images", sorted(pair.iterdir()), tmp_path)
    for file in sorted(pair.iterdir()):
        with contextlib.suppress(ValueError):
            decode_image(file.read_bytes())
    assert (decode_image(sample.read_bytes()) == before).all()

"""Small files that ask for much, or crash a library: one line that names the file, in little time and memory."""

import io
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from agedge.errors import AgedgeError
from rec_tools.formats import matlab
from rec_tools.packing.write_splits import find_replaced
from rec_tools.readers import imdb_wiki, npz
from tests.paths import ROOT

CORPUS = ROOT / "tests/corpus/mat"


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.stem)
def test_a_mat_file_that_crashes_its_reader_is_damaged(tmp_path, file):
    shutil.copy(file, tmp_path / "imdb.mat")
    with pytest.raises(AgedgeError, match="imdb.mat: damaged"):
        imdb_wiki.read(tmp_path)


@pytest.mark.parametrize("deed", ["while True: pass", "bytearray(10**10)", "import os; os.kill(os.getpid(), 11)"])
def test_reading_a_mat_file_is_limited(tmp_path, monkeypatch, deed):
    """In the place of SciPy stands a module that does what SciPy does with some damaged files."""
    (tmp_path / "scipy").mkdir()
    (tmp_path / "scipy/__init__.py").write_text("")
    (tmp_path / "scipy/io.py").write_text(f"def loadmat(*_, **__):\n    {deed}\n")
    (tmp_path / "imdb.mat").write_bytes(b"MATLAB")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(matlab, "SECONDS", 0.2)
    with pytest.raises(AgedgeError, match="imdb.mat: damaged"):
        imdb_wiki.read(tmp_path)


def header(shape, kind="<f8", version=(1, 0)) -> bytes:
    text = str({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text


def write(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, (head, zeros) in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head)
                for _ in range(zeros // 10**6):
                    member.write(bytes(10**6))
    return path


MANY = 15 * 10**6
BOMBS = {
    "labels": dict(age=(header((MANY,)), 8 * MANY), image=(header((0, 8, 8, 3), "|u1"), 0)),
    "pixels": dict(age=(header((MANY,)), 8 * MANY), image=(header((MANY, 1, 1, 3), "|u1"), 3 * MANY)),
    "one image": dict(age=(header((1,)), 0), image=(header((1, 1500, 3000, 3), "<f8"), 108 * 10**6)),
    "header": dict(age=(b"\x93NUMPY\2\0" + (4 * MANY).to_bytes(4, "little"), 4 * MANY), image=(header((1,)), 0)),
    "negative": dict(age=(header((-1, -1)), 0), image=(header((-1, -8, 8, 3), "|u1"), 0)),
    "deep": dict(age=(b"\x93NUMPY\1\0\x20\x1f" + b"(" * 0x1F20, 0), image=(header((0, 8, 8, 3), "|u1"), 0)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_archive_that_asks_for_much_is_refused(tmp_path, bomb):
    file = write(tmp_path / "a.npz", **BOMBS[bomb])
    assert file.stat().st_size < 10**6
    code = f"""if True:
        import resource
        from agedge.errors import AgedgeError
        from rec_tools.readers import npz
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            list(npz.read({str(file)!r}))
        except AgedgeError as error:
            print(error)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith(str(file)), done.stderr


def test_an_archive_that_is_compressed_in_another_way_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 8, 8, 3), np.uint8))
    age = (header((1,)), 0)
    file = write(tmp_path / "a.npz", zipfile.ZIP_LZMA, image=(buffer.getvalue(), 0), age=age)
    with pytest.raises(AgedgeError, match="must be stored or deflated"):
        list(npz.read(file))


def test_names_of_other_parts_do_not_lead_out_of_the_folder(tmp_path):
    """What a NAME.json says of its pack's other parts is removed with it."""
    (tmp_path / "out").mkdir()
    for name in ("other.rec", "out/train.rec", "out/val.rec"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "out/train.json").write_text('{"packed": {"train": 1, "val": 1, "../other": 1}}')
    found = find_replaced(tmp_path / "out", ["train"])
    assert [path.name for path in found] == ["train.rec", "val.rec"]

"""One process at a time writes a file, whoever removes or renames it in between."""

import subprocess
import sys

import pytest

from agedge.errors import AgedgeError
from agedge.locks import open_alone
from agedge.records import RecordWriter


def test_a_file_is_one_writers_until_it_is_closed(tmp_path):
    path = tmp_path / "new/file"
    with open_alone(path) as file:
        file.write(b"long content")
        with pytest.raises(AgedgeError, match="file: another process is writing it"):
            open_alone(path)
    with open_alone(path) as file:
        assert path.read_bytes() == b""


def test_a_file_that_was_renamed_in_between_is_left_alone(tmp_path, monkeypatch):
    path, real = tmp_path / "a.partial", open

    def slow_open(name, mode):
        file = real(name, mode)
        if not (tmp_path / "a").exists():  # the writer before has just finished
            file.write(b"finished")
            file.flush()
            path.rename(tmp_path / "a")
        return file

    monkeypatch.setattr("builtins.open", slow_open)
    with open_alone(path) as file:
        file.write(b"mine")
    assert (tmp_path / "a").read_bytes() == b"finished" and path.read_bytes() == b"mine"


def test_the_lock_goes_with_its_process(tmp_path):
    code = "import os, sys; from agedge.locks import open_alone; f = open_alone(sys.argv[1]); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")]).returncode == -9
    open_alone(tmp_path / "a").close()


def test_two_writers_of_one_record_file(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        with pytest.raises(AgedgeError, match="another process is writing it"):
            RecordWriter(tmp_path / "a.rec")
        writer.write_record(b"record")
    assert (tmp_path / "a.rec").stat().st_size == 16

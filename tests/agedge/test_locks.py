"""One process at a time writes a file, even where another one removes or renames it meanwhile."""

import subprocess
import sys

import pytest

from agedge import locks
from agedge.errors import AgedgeError
from agedge.locks import open_locked
from agedge.records import RecordWriter


def test_a_file_is_one_writers_until_it_is_closed(tmp_path):
    path = tmp_path / "new/file"
    with open_locked(path) as file:
        file.write(b"long content")
        with pytest.raises(AgedgeError, match="file: another process is writing it"):
            open_locked(path)
    with open_locked(path) as file:
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
    with open_locked(path) as file:
        file.write(b"mine")
    assert (tmp_path / "a").read_bytes() == b"finished" and path.read_bytes() == b"mine"


def test_the_lock_goes_with_its_process(tmp_path):
    code = "import os, sys; from agedge.locks import open_locked; f = open_locked(sys.argv[1]); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")]).returncode == -9
    open_locked(tmp_path / "a").close()


def test_two_writers_of_one_record_file(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        with pytest.raises(AgedgeError, match="another process is writing it"):
            RecordWriter(tmp_path / "a.rec")
        writer.write_record(b"record")
    assert (tmp_path / "a.rec").stat().st_size == 16


def test_a_system_without_locks_is_named_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    locks._warn_once.cache_clear()
    with open_locked(tmp_path / "a"), open_locked(tmp_path / "a"):
        pass
    assert caplog.text.count("files are not locked (this system has no flock)") == 1


def test_a_file_system_without_locks_is_named_once(tmp_path, monkeypatch, caplog):
    def refuse(file, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    locks._warn_once.cache_clear()
    for _ in range(2):
        open_locked(tmp_path / "a").close()
    assert caplog.text.count("the file system has no locks: Operation not supported") == 1

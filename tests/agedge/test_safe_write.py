import os
import signal
import subprocess
import sys

import pytest

from agedge import safe_write
from agedge.errors import AgedgeError
from agedge.safe_write import (
    PartialFile,
    rename_synced,
    replacing,
    temporary_folder,
    write_bytes,
    write_json,
    write_text,
)


def test_a_failed_block_leaves_the_former_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "former")
    with pytest.raises(ValueError), replacing(path, "w") as file:
        file.write("half")
        raise ValueError
    assert path.read_text() == "former"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_names_the_file_and_leaves_the_former_content(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.json"
    write_json(path, [1])

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_json(path, [2])
    assert caught.value.filename == str(path)
    assert path.read_text() == "[\n 1\n]\n"
    assert os.listdir(path.parent) == ["a.json"]


def test_before_is_called_while_the_former_content_stands(tmp_path):
    path, seen = tmp_path / "a", []
    write_bytes(path, b"1")
    write_bytes(path, b"2", before=lambda: seen.append(path.read_bytes()))
    assert (seen, path.read_bytes()) == ([b"1"], b"2")


def test_a_link_is_followed_and_a_mode_is_kept(tmp_path):
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_bytes(b"1")
    path.chmod(0o640)
    link.symlink_to(path)
    write_bytes(link, b"2")
    assert link.is_symlink() and path.read_bytes() == b"2" and path.stat().st_mode & 0o777 == 0o640


def test_a_device_is_written_and_not_replaced():
    with pytest.raises(OSError) as caught:
        write_bytes("/dev/full", b"1")
    assert caught.value.filename == "/dev/full"
    assert not os.path.isfile("/dev/full") and os.path.exists("/dev/full")


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("é" * 127)
    write_bytes(path, b"1")
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_and_a_file_in_place_of_a_folder_are_errors_that_name_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    for path in (tmp_path, tmp_path / "file" / "a"):
        with pytest.raises(OSError) as caught:
            write_bytes(path, b"2")
        assert str(caught.value.filename).startswith(str(tmp_path))
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_removed_at_the_next_write(tmp_path, monkeypatch):
    code = (
        "import os, sys\nfrom agedge.safe_write import *\n"
        "with temporary_folder(sys.argv[1]) as folder, replacing(sys.argv[1] + '/b') as file:\n"
        "    (folder / 'a').write_bytes(b'1'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path])
    assert killed.returncode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 2
    (tmp_path / "mine.partial").write_bytes(b"not ours")
    monkeypatch.setattr(safe_write, "_swept", set())
    write_bytes(tmp_path / "a", b"1")
    assert sorted(os.listdir(tmp_path)) == ["a", "mine.partial"]


def test_what_a_living_process_writes_stays(tmp_path, monkeypatch):
    with temporary_folder(tmp_path) as folder:
        monkeypatch.setattr(safe_write, "_is_another", lambda number: True)
        monkeypatch.setattr(safe_write, "_swept", set())
        write_bytes(tmp_path / "a", b"1")
        assert folder.is_dir()
    assert os.listdir(tmp_path) == ["a"]


def test_a_growing_file_has_its_name_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.csv"
    with PartialFile(path) as file:
        file.write("\udcff,")
        file.write(b"\xff\n")
        assert os.listdir(path.parent) == ["a.csv.partial"]
        with pytest.raises(AgedgeError, match="another process is writing it"):
            PartialFile(path)
    assert path.read_bytes() == b"\\udcff,\xff\n" and os.listdir(path.parent) == ["a.csv"]
    with pytest.raises(ValueError), PartialFile(path) as file:
        file.write("half")
        raise ValueError
    assert path.read_bytes() == b"\\udcff,\xff\n" and os.listdir(path.parent) == ["a.csv"]


def test_growing_files_take_their_names_when_all_are_on_the_disk(tmp_path):
    (tmp_path / "b.partial").symlink_to("/dev/full")
    files = [PartialFile(tmp_path / name) for name in "ab"]
    for file in files:
        file.write(b"1")
    with pytest.raises(OSError, match="No space left on device") as caught:
        PartialFile.finish(files)
    assert caught.value.filename == str(tmp_path / "b")
    for file in files:
        file.discard()
    assert not os.listdir(tmp_path)


def test_a_file_that_a_library_wrote_is_renamed(tmp_path):
    with temporary_folder(tmp_path) as folder:
        (folder / "a").write_bytes(b"1")
        rename_synced(folder / "a", tmp_path / "b")
        with pytest.raises(OSError) as caught:
            rename_synced(folder / "a", tmp_path / "c")
    assert caught.value.filename == str(tmp_path / "c") and os.listdir(tmp_path) == ["b"]

"""The images of a folder, and the counts of the files that are left out."""

import os
from collections import Counter

import pytest

from agedge.errors import AgedgeError
from agedge.folders import describe_counts, list_images
from agedge.sources import read_images
from tests.images.encoded_images import corners, encode


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    for name in ("a.jpg", "b.jfif", "c.mpo", "d.JIF", "sub/e.png", "sub/f", "sub/g.psd", "h.psd", "i.txt", ".j.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(corners()))
    return root


def names(root, paths):
    return [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]


def test_files_that_are_left_out_are_counted_by_suffix(folder):
    left_out = Counter({".psd": 1})
    assert names(folder, list_images(folder, left_out)) == ["a.jpg", "b.jfif", "c.mpo", "d.JIF", "sub/e.png"]
    assert left_out == {".psd": 3, "no suffix": 1, ".txt": 1}
    assert describe_counts(left_out) == ".psd 3, .txt 1, no suffix 1"
    again = Counter()
    assert [image.error for image in read_images([folder], again)] == [""] * 5
    assert again == {".psd": 2, "no suffix": 1, ".txt": 1}


def test_linked_folders_are_followed_once_and_never_in_a_loop(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.jpg").write_bytes(encode(corners()))
    (other / "back").symlink_to(folder)
    (folder / "0linked").symlink_to(other)
    (folder / "0sub").symlink_to(folder / "sub")
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.jpg").symlink_to(tmp_path / "gone.jpg")
    left_out = Counter()
    found = names(folder, list_images(folder, left_out))
    assert found == ["0linked/x.jpg", "a.jpg", "b.jfif", "c.mpo", "d.JIF", "sub/e.png"]
    assert left_out["broken link"] == 2


def test_a_pipe_is_left_out_and_does_not_block(folder):
    os.mkfifo(folder / "pipe.jpg")
    left_out = Counter()
    assert len(list_images(folder, left_out)) == 5
    assert left_out["not a file"] == 1


def test_the_error_for_a_folder_without_images_names_its_files(tmp_path):
    (tmp_path / "a.psd").touch()
    (tmp_path / "b.psd").touch()
    (tmp_path / "c").touch()
    reason = "no images in it, but 3 of other kinds: .psd 2, no suffix 1"
    with pytest.raises(AgedgeError, match=reason):
        list_images(tmp_path)
    assert [image.error for image in read_images([tmp_path])] == [reason]


def test_a_folder_that_cannot_be_read_is_an_image_with_an_error(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    images = list(read_images([folder]))
    assert [(image.file, image.error) for image in images if image.error] == [
        (str(folder / "sub"), "folder not readable: Permission denied")
    ]
    assert len(images) == 5
    left_out = Counter()
    assert len(list_images(folder, left_out)) == 4 and left_out["unreadable folder"] == 1

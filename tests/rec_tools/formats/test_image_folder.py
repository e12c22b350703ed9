"""A data set's folder: pictures that are not taken by their names are in dropped.csv, the tables of the set are not."""

from rec_tools.formats.image_folder import list_images
from rec_tools.readers import utkface
from rec_tools.rows import Dropped
from tests.images.encoded_images import corners, encode


def test_what_could_be_a_picture_is_dropped_with_its_kind(tmp_path):
    root, outside = tmp_path / "set", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    for name in ("31_1_0_1.jfif", "32_1_0_1.jpg", "33_1_0_1", "34_1_0_1.image"):
        (root / name).write_bytes(encode(corners()))
    (root / "35_1_0_1.psd").write_bytes(b"8BPS")
    (root / "labels.txt").write_text("31 f\n")
    (root / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    (root / "36_1_0_1.jpg").symlink_to(tmp_path / "gone")
    (root / "linked").symlink_to(outside)
    rows = list(utkface.read(root))
    assert [row.id for row in rows if not isinstance(row, Dropped)] == ["31_1_0_1.jfif", "32_1_0_1.jpg"]
    assert [(row.id, row.reason, row.detail) for row in rows if isinstance(row, Dropped)] == [
        ("linked", "path leaves the folder", "a link to a folder"),
        ("33_1_0_1", "not an image by its name", "no suffix"),
        ("34_1_0_1.image", "not an image by its name", ".image"),
        ("35_1_0_1.psd", "not an image by its name", ".psd"),
        ("36_1_0_1.jpg", "not an image by its name", "broken link"),
    ]


def test_a_link_inside_the_set_lists_its_images_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(encode(corners()))
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert list(list_images(tmp_path)) == ["a/1.jpg"]

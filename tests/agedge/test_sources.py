"""Image files become upright BGR uint8; a file that cannot be read is an error of one line."""

import struct

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.sources import list_images, read_image, read_images
from tests.images.encoded_images import TURNED, corners, encode


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tags = struct.pack("<HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_applied_once(orientation, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(with_orientation(encode(TURNED[orientation](corners())), orientation))
    image = read_image(path)
    assert image.shape == (40, 64, 3)
    assert np.abs(image.astype(int) - corners()).mean() < 6


def test_channels_are_bgr(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(corners(), ".png"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), corners())


def test_grey_becomes_three_channels(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(corners()[..., 1], ".png"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.dstack([corners()[..., 1]] * 3))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits_are_scaled_not_truncated(suffix, grey, tmp_path):
    ramp = np.linspace(0, 65535, 64 * 40).astype(np.uint16).reshape(40, 64)
    deep = ramp if grey else np.dstack([ramp, ramp.T.reshape(40, 64), ramp[::-1]])
    (tmp_path / f"a{suffix}").write_bytes(encode(deep, suffix))
    image = read_image(tmp_path / f"a{suffix}")
    assert image.dtype == np.uint8 and image.shape == (40, 64, 3)
    assert np.abs(image.reshape(40, 64, 3) - (deep[..., None] if grey else deep) / 257).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_alpha_is_dropped(suffix, tmp_path):
    transparent = np.dstack([corners(), np.full((40, 64), 128, np.uint8)])
    (tmp_path / f"a{suffix}").write_bytes(encode(transparent, suffix))
    image = read_image(tmp_path / f"a{suffix}")
    assert image.shape == (40, 64, 3) and np.abs(image.astype(int) - corners()).mean() < 6


def test_cmyk_is_converted(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(corners()[..., ::-1]).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - corners()).mean() < 8


def test_a_path_need_not_be_ascii(tmp_path):
    path = tmp_path / "Bücher 写真" / "ß é.png"
    path.parent.mkdir()
    path.write_bytes(encode(corners(), ".png"))
    np.testing.assert_array_equal(read_image(path), corners())


FAULTS = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": ("name,age\nüm,3\n".encode(), r"not an image \(a text file\?\)"),
    "zip.png": (b"PK\x03\x04\0\0\0\0" * 9, "not an image of a known format"),
    "cut.jpg": (encode(corners())[:400], "truncated"),
    "cut_late.jpg": (encode(corners())[:-2], "truncated"),
    "cut_progressive.jpg": (encode(corners(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)[:-20], "truncated"),
    "cut.png": (encode(corners(), ".png")[:-30], "truncated"),
    "cut.webp": (encode(corners(), ".webp")[:-30], "truncated or damaged"),
    "head.jpg": (b"\xff\xd8\xff\xe0", "truncated"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_file_is_one_line_with_the_reason(name, tmp_path):
    content, reason = FAULTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AgedgeError, match=rf"{name}: {reason}$"):
        read_image(tmp_path / name)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_cut_off(tmp_path):
    jpeg, thumbnail = encode(corners()), encode(corners()[::4, ::4])
    whole = jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + jpeg[2:]
    (tmp_path / "whole.jpg").write_bytes(whole + b"appended by a camera")
    assert read_image(tmp_path / "whole.jpg").shape == (40, 64, 3)
    (tmp_path / "cut.jpg").write_bytes(whole[:-100])
    with pytest.raises(AgedgeError, match="truncated"):
        read_image(tmp_path / "cut.jpg")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(AgedgeError, match=r"gone\.jpg: does not exist"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(AgedgeError, match="is a folder, not an image"):
        read_image(tmp_path)


def test_a_folder_is_read_recursively_and_sorted(tmp_path):
    for name in ("b/2.JPG", "a.png", "b/1.jpg", "c/d/e.webp", ".hidden.jpg", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(corners(), path.suffix if path.suffix != ".txt" else ".png"))
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["a.png", "b/1.jpg", "b/2.JPG", "c/d/e.webp"]


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(AgedgeError, match="no images in it"):
        list_images(tmp_path)


def test_one_bad_image_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.jpg").write_text("not an image")
    (tmp_path / "b.png").write_bytes(encode(corners(), ".png"))
    (tmp_path / "void").mkdir()
    images = list(read_images([tmp_path / "gone.jpg", tmp_path / "void", tmp_path]))
    reasons = ["does not exist", "no images in it", "not an image (a text file?)", ""]
    assert [image.error for image in images] == reasons
    assert [image.image is None for image in images] == [True, True, True, False]
    assert images[-1].file == str(tmp_path / "b.png")


def test_a_video_gives_its_frames(tmp_path):
    path = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 40))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for value in (10, 120, 240):
        writer.write(np.full((40, 64, 3), value, np.uint8))
    writer.release()
    frames = list(read_images([path]))
    assert [frame.file for frame in frames] == [f"{path}#{number:06d}" for number in range(3)]
    images = [frame.image for frame in frames if frame.image is not None]
    assert [round(image.mean(), -1) for image in images] == [10, 120, 240]
    (tmp_path / "bad.mp4").write_text("no video")
    assert [image.error for image in read_images([tmp_path / "bad.mp4"])] == ["not a video that OpenCV can read"]


def test_a_camera_that_does_not_exist_is_named():
    assert [(image.file, image.error) for image in read_images(["97"])] == [("97", "this camera does not exist")]

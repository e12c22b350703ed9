"""Videos: recognised by content, cut off; cameras, streams and standard input."""

import io
import pickle
import shutil
import sys

import cv2
import numpy as np
import pytest

from agedge.images import videos
from agedge.sources import SourceImage, read_images
from tests.images.encoded_images import corners, encode

CODECS = {
    ".avi": "MJPG",
    ".mkv": "MJPG",
    ".mp4": "mp4v",
    ".mov": "mp4v",
    ".flv": "FLV1",
    ".webm": "VP80",
    ".ts": "mp4v",
}


def write_video(path, frames=12):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), 5, (64, 40))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {path.suffix}")
    for number in range(frames):
        writer.write(np.roll(corners(), 5 * number, axis=1))
    writer.release()
    return path


def truncate(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def errors(source):
    return [image.error for image in read_images([source])]


@pytest.mark.parametrize("suffix", CODECS)
def test_a_whole_video_yields_all_its_frames_without_an_error(suffix, tmp_path):
    assert errors(write_video(tmp_path / f"a{suffix}")) == [""] * 12


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".flv", ".webm"])
def test_a_video_that_ends_early_is_an_error_after_its_last_frame(suffix, tmp_path):
    path = write_video(tmp_path / f"a{suffix}", 30)
    truncate(path, 0.6)
    images = list(read_images([path]))
    read = len(images) - 1
    assert 5 < read < 29 and not any(image.error for image in images[:-1])
    assert images[-1] == SourceImage(str(path), None, f"ends after {read} of 30 frames: damaged")


def test_a_video_without_its_index_is_an_error(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60)
    truncate(path, 0.6)
    assert errors(path) == ["truncated or damaged: OpenCV cannot open this video"]


@pytest.mark.parametrize("name", ["video", "video.jpg", "video.unknown"])
def test_a_video_is_recognised_by_its_content(name, tmp_path):
    shutil.move(str(write_video(tmp_path / "a.mp4")), tmp_path / name)
    images = list(read_images([tmp_path / name]))
    assert [image.file[-7:] for image in images] == [f"#{number:06d}" for number in range(12)]


def test_an_image_with_the_name_of_a_video_is_an_image(tmp_path):
    (tmp_path / "a.mp4").write_bytes(encode(corners()))
    assert [image.file for image in read_images([tmp_path / "a.mp4"])] == [str(tmp_path / "a.mp4")]


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\n{}\n", "ffconcat version 1.0\nfile '{}'\n"])
def test_a_list_of_files_is_not_a_video(text, tmp_path):
    """FFmpeg would open the files in the list."""
    secret = write_video(tmp_path / "secret.avi")
    (tmp_path / "list.mp4").write_text(text.format(secret))
    assert errors(tmp_path / "list.mp4") == ["not a video that OpenCV can read"]


def test_a_name_with_digits_is_not_a_series_of_images(tmp_path):
    for number in range(3):
        (tmp_path / f"b{number}.mkv").write_bytes(bytes([1, 0, 2, 7]) * 300)
    assert errors(tmp_path / "b0.mkv") == ["not a video that OpenCV can read"]


def test_frames_that_are_too_large_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "MAX_PIXELS", 1000)
    assert errors(write_video(tmp_path / "a.avi")) == ["64x40 pixels, more than 0.001 million"]


def test_a_stream_that_does_not_answer_is_one_line_without_its_password(capfd):
    (image,) = read_images(["rtsp://user:secret@127.0.0.1:9/live"])
    assert "secret" not in capfd.readouterr().err
    assert image.file == "rtsp://user:***@127.0.0.1:9/live"
    assert image.error == "not a stream that OpenCV can read, or no answer within 5 s"


def test_standard_input_is_one_image(monkeypatch):
    for content, error in (
        (encode(corners(), ".png"), ""),
        (b"", "empty file"),
        (b"text", "not an image (a text file?)"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        (image,) = read_images(["-"])
        assert (image.file, image.error) == ("-", error)
        if not error:
            assert image.image is not None
            np.testing.assert_array_equal(image.image, corners())


def test_a_file_of_many_bytes_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(2 << 30)
    assert errors(tmp_path / "large.jpg") == ["a file of 2147 MB, more than 401"]


def test_images_compare_and_can_be_pickled():
    one, same = SourceImage("a.jpg", corners()), SourceImage("a.jpg", corners().copy())
    assert one == same and pickle.loads(pickle.dumps(one)) == one
    assert (
        one != SourceImage("a.jpg", corners()[::-1])
        and one != SourceImage("b.jpg", corners())
        and one != SourceImage("a.jpg")
    )
    assert one != SourceImage("a.jpg", corners()[:20]) and one != "a.jpg"

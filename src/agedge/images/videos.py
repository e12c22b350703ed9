"""Read the frames of videos, cameras and streams by OpenCV's FFmpeg: native code in this process."""

import os
import re
from pathlib import Path
from typing import Iterator, Tuple, Union

import cv2
import numpy as np

from agedge.errors import AgedgeError
from agedge.images.decode import MAX_PIXELS
from agedge.images.kinds import is_video

VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".3g2", ".flv", ".f4v", ".ts"),
    *(".mts", ".m2ts", ".ogv", ".ogm", ".asf", ".vob", ".divx", ".mxf", ".y4m", ".mjpg", ".mjpeg", ".rm", ".rmvb"),
}
STREAM = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|rtp|srt|mmsh?|ftps?)://", re.IGNORECASE)
HEAD = 4096  # bytes that are enough to recognise a file
TIMEOUT_MS = 5000  # to open a stream, and to read each of its frames
NOT_A_VIDEO, TRUNCATED = "not a video that OpenCV can read", "truncated or damaged: OpenCV cannot open this video"


def read_video(path: Union[str, Path]) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield (number from 0, BGR uint8 (h, w, 3)) for each frame of a video.

    Raises `AgedgeError` if it cannot be opened or its frames are too large, and at its end if frames are missing.
    """
    # FFmpeg only: OpenCV's next backend takes a name with digits for a series of images, and does not check them.
    capture = _open(os.path.abspath(path))
    with open(path, "rb") as file:
        head = file.read(HEAD)
    try:
        count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        read, at = 0, 0.0
        for read, frame in enumerate(_frames(capture, path), 1):
            at = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield read - 1, frame
        if not read:
            raise AgedgeError(f"{path}: {TRUNCATED if is_video(head) else NOT_A_VIDEO}")
        # Measured on whole videos of 15 kinds: AVI, MP4, MOV, MKV, WebM, FLV, TS have as many frames as they declare,
        # MPEG-1 more, WMV declares a negative number. With a variable rate the declared number is an estimate, so the
        # time is checked as well.
        missing = int(count) - read
        if missing > (0 if head[8:12] == b"AVI " else 1) and rate > 0 and count - at * rate > 1.5:
            raise AgedgeError(f"{path}: ends after {read} of {int(count)} frames: damaged")
    finally:
        capture.release()


def read_camera(number: int) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield (number from 0, BGR uint8 (h, w, 3)) for each frame of a camera. Raises `AgedgeError` without a frame."""
    yield from _read_live(cv2.VideoCapture(number), str(number), "this camera does not exist")


def read_stream(url: str) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield (number from 0, BGR uint8 (h, w, 3)) for each frame of a URL. Raises `AgedgeError` without its password."""
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    fault = f"not a stream that OpenCV can read, or no answer within {TIMEOUT_MS / 1000:g} s"
    _silence_ffmpeg()
    yield from _read_live(cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts), without_password(url), fault)


def without_password(url: str) -> str:
    """Return a URL with its password replaced by `***`."""
    return re.sub(r"^([^/]*//[^/@:]*):[^/@]*@", r"\1:***@", url)


def _read_live(capture: cv2.VideoCapture, name: str, fault: str) -> Iterator[Tuple[int, np.ndarray]]:
    read = 0
    try:
        for read, frame in enumerate(_frames(capture, name), 1):
            yield read - 1, frame
    finally:
        capture.release()
    if not read:
        raise AgedgeError(f"{name}: {fault}")


def _silence_ffmpeg() -> None:
    """Silence FFmpeg's own messages, which may contain a stream's password; this package reports the errors."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when the first video is opened


def _open(path: str) -> cv2.VideoCapture:
    _silence_ffmpeg()
    backends = cv2.videoio_registry.getBackends()
    return cv2.VideoCapture(path, cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in backends else cv2.CAP_ANY)


def _frames(capture: cv2.VideoCapture, name: Union[str, Path]) -> Iterator[np.ndarray]:
    """Yield the frames of a capture. Raises `AgedgeError` if they are too large."""
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width * height > MAX_PIXELS:
        raise AgedgeError(f"{name}: {width:.0f}x{height:.0f} pixels, more than {MAX_PIXELS / 1e6:g} million")
    while capture.isOpened():
        found, frame = capture.read()
        if not found:
            return
        yield frame

"""Decode images in a child process, for formats whose native decoders crash on damaged files.

OpenCV 4.11's JPEG 2000 decoder writes outside of its memory: the process dies, or the next image is decoded wrongly.
GIF, AVIF, HEIC, JPEG 2000, animated WebP and the rarer compressions of TIFF are decoded by `decode_child.py`, one
process per image (0.1 s), with limits on its time and memory.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = Path(__file__).with_name("decode_child.py")
# Limits of the child process: a constant, and more for each megabyte or byte of the file.
SECONDS, SECONDS_PER_MEGABYTE = 4, 1  # of processor time: OpenJPEG takes 0.5 s per megabyte
WALL_TIME_FACTOR = 5  # wall time is limited to this many times the processor time, since the machine may be busy
MEMORY, MEMORY_PER_BYTE = 900_000_000, 100  # bytes: OpenJPEG takes 28 per pixel


def decode_isolated(content: bytes, kind: str, max_pixels: float) -> np.ndarray:
    """Return the first image of a file, upright: (h, w, 3) BGR uint8, or (h, w) uint16 if it is grey of 16 bits.

    `kind`: Pillow's name of the format. Raises `ValueError` with the reason.
    """
    seconds = SECONDS + int(SECONDS_PER_MEGABYTE * len(content) / 1e6)
    limits = [str(int(max_pixels)), str(seconds), str(MEMORY + MEMORY_PER_BYTE * len(content))]
    with tempfile.TemporaryFile() as pixels:
        try:
            done = subprocess.run(
                [sys.executable, str(CHILD), kind, *limits],
                input=content,
                stdout=pixels,
                stderr=subprocess.PIPE,
                timeout=WALL_TIME_FACTOR * seconds,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"decoding takes longer than {WALL_TIME_FACTOR * seconds} s") from None
        except OSError as error:
            raise ValueError(
                f"the child process that decodes {kind} cannot be started: {error.strerror or error}"
            ) from None
        if done.returncode < 0:
            raise ValueError(f"damaged: its decoder crashed or ran over {seconds} s (signal {-done.returncode})")
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
        if done.returncode:
            raise ValueError(last[len("error: ") :] if last.startswith("error: ") else f"cannot be decoded: {last}")
        pixels.seek(0)
        mode, width, height = last.split()
        values = np.fromfile(pixels, "<u2" if mode == "I;16" else np.uint8)
    shape = (int(height), int(width)) if mode == "I;16" else (int(height), int(width), 3)
    return values.reshape(shape) if mode == "I;16" else np.ascontiguousarray(values.reshape(shape)[..., ::-1])

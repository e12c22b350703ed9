"""Decode images in a process of their own: those of formats whose native decoders crash on damaged files.

OpenCV 4.11's JPEG 2000 decoder writes outside of its memory: the process dies, or the next picture comes out wrong.
GIF, AVIF, HEIC, JPEG 2000, animated WebP and the rarer compressions of TIFF go to `decode_child.py`, a process a picture
(0.1 s), with limits on its time and memory.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = Path(__file__).with_name("decode_child.py")
SECONDS, SECONDS_A_MEGABYTE = 4, 1  # of processor time: OpenJPEG takes 0.5 s a megabyte
PATIENCE = 5  # times as long by the clock, for the machine may be busy
MEMORY, MEMORY_A_BYTE = 900_000_000, 100  # bytes, and bytes more for each byte of the file: OpenJPEG takes 28 a pixel


def decode_isolated(content: bytes, kind: str, max_pixels: float) -> np.ndarray:
    """Return the first picture of an image file, upright: (h, w, 3) BGR uint8 or, if grey and deeper, (h, w) uint16.

    `kind`: Pillow's name of the format. Raises `ValueError` with the reason.
    """
    seconds = SECONDS + int(SECONDS_A_MEGABYTE * len(content) / 1e6)
    limits = [str(int(max_pixels)), str(seconds), str(MEMORY + MEMORY_A_BYTE * len(content))]
    with tempfile.TemporaryFile() as pixels:
        try:
            done = subprocess.run(
                [sys.executable, str(CHILD), kind, *limits],
                input=content,
                stdout=pixels,
                stderr=subprocess.PIPE,
                timeout=PATIENCE * seconds,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"decoding takes longer than {PATIENCE * seconds} s") from None
        except OSError as error:
            raise ValueError(f"the process that decodes {kind} cannot be started: {error.strerror or error}") from None
        if done.returncode < 0:
            raise ValueError(f"damaged: its decoder crashed or ran over {seconds} s (signal {-done.returncode})")
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
        if done.returncode:
            raise ValueError(last[len("error: ") :] if last.startswith("error: ") else f"cannot be decoded: {last}")
        pixels.seek(0)
        mode, width, height = last.split()
        found = np.fromfile(pixels, "<u2" if mode == "I;16" else np.uint8)
    shape = (int(height), int(width)) if mode == "I;16" else (int(height), int(width), 3)
    return found.reshape(shape) if mode == "I;16" else np.ascontiguousarray(found.reshape(shape)[..., ::-1])

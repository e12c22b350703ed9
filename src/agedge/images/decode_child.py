"""Decode an image by Pillow, as a program: `decode_child.py FORMAT PIXELS SECONDS BYTES`, the file on standard input.

It writes the RGB pixels to standard output, and "MODE WIDTH HEIGHT" or "error: REASON" to standard error. It imports
neither this package nor NumPy, so that it starts in a tenth of a second.
"""

import io
import os
import sys
from importlib import import_module

PLUGINS = {
    "AVIF": "PIL.AvifImagePlugin",
    "GIF": "PIL.GifImagePlugin",
    "HEIF": "pillow_heif",
    "JPEG2000": "PIL.Jpeg2KImagePlugin",
    "TIFF": "PIL.TiffImagePlugin",
    "WEBP": "PIL.WebPImagePlugin",
}
LIBRARIES = {"AVIF": "avif", "JPEG2000": "jpg_2000"}  # optional features of a Pillow build
BAND = 256  # rows that are written at once, to save memory
MISSING = {
    "AVIF": "an AVIF image needs Pillow 11.3 or later: install it",
    "HEIF": "a HEIC image needs pillow-heif: install it",
    "JPEG2000": "a JPEG 2000 image, which this build of Pillow does not support",
}


def decode(kind: str, max_pixels: int) -> None:
    """Decode the first image of the file on standard input and turn it upright; see the module."""
    try:
        from PIL import Image, ImageOps, features

        plugin = import_module(PLUGINS[kind])
        if kind in LIBRARIES and not features.check(LIBRARIES[kind]):
            raise ImportError
    except ImportError:
        sys.exit("error: " + MISSING.get(kind, f"a {kind} image needs Pillow: install it"))
    if kind == "HEIF":
        plugin.register_heif_opener()
        plugin.options.DECODE_THREADS = 1  # each thread uses memory, which is limited
    elif kind == "AVIF":
        setattr(plugin, "DEFAULT_MAX_THREADS", 1)  # noqa: B010, a module has no such type
    Image.MAX_IMAGE_PIXELS = None  # `max_pixels` is checked below
    try:
        image = Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=[kind])
        width, height = image.size
        if width * height > max_pixels:
            sys.exit(f"error: {width}x{height} pixels, more than {max_pixels / 1e6:g} million")
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        if image.mode[:1] in ("F", "I") and image.mode != "I;16":
            sys.exit(f"error: {kind} samples of mode {image.mode} are not supported")
        mode = image.mode if image.mode == "I;16" else "RGB"
        for top in range(0, image.height, BAND):
            band = image.crop((0, top, image.width, min(top + BAND, image.height)))
            sys.stdout.buffer.write((band if band.mode == mode else band.convert(mode)).tobytes())
    except MemoryError:
        sys.exit("error: decoding exceeds the memory limit")
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        sys.exit("error: truncated or damaged" + (f": {detail}" if "BytesIO" not in detail else ""))
    sys.stderr.write(f"\n{mode} {image.width} {image.height}\n")


def limit_this_process(seconds: int, memory: int) -> None:
    """Limit the time (s) and memory (bytes) of this process, if the system can, and disable core files."""
    if os.name == "nt":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if sys.platform.startswith("linux"):  # other systems count shared memory too
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    sys.path.pop(0)  # remove this folder: its files are not top-level modules
    limit_this_process(int(sys.argv[3]), int(sys.argv[4]))
    decode(sys.argv[1], int(sys.argv[2]))

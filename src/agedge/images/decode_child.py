"""Decode an image by Pillow, as a program: `decode_child.py FORMAT PIXELS SECONDS BYTES`, the file on standard input.

Its RGB pixels go to standard output, "MODE WIDTH HEIGHT" or the reason why there are none to standard error. It imports
nothing of this package and no NumPy, so that it starts in a tenth of a second.
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
LIBRARIES = {"AVIF": "avif", "JPEG2000": "jpg_2000"}  # which Pillow may be built without
BAND = 256  # rows that are written at a time: the whole image as bytes would be much memory
MISSING = {
    "AVIF": "an AVIF, which Pillow from 11.3 on reads: install it",
    "HEIF": "a HEIC, which pillow-heif reads: install it",
    "JPEG2000": "a JPEG 2000, which this Pillow is built without",
}


def decode(kind: str, max_pixels: int) -> None:
    """Decode the first picture of a file, turned upright; see above."""
    try:
        from PIL import Image, ImageOps, features

        plugin = import_module(PLUGINS[kind])
        if kind in LIBRARIES and not features.check(LIBRARIES[kind]):
            raise ImportError
    except ImportError:
        sys.exit("error: " + MISSING.get(kind, f"a {kind}, which Pillow reads: install it"))
    if kind == "HEIF":
        plugin.register_heif_opener()
        plugin.options.DECODE_THREADS = 1  # each one takes of the memory that is allowed
    elif kind == "AVIF":
        plugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = None  # the limit follows
    try:
        image = Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=[kind])
        width, height = image.size
        if width * height > max_pixels:
            sys.exit(f"error: {width}x{height} pixels, more than {max_pixels / 1e6:g} million")
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        if image.mode[:1] in ("F", "I") and image.mode != "I;16":
            sys.exit(f"error: a {kind} of samples {image.mode}, which are not read")
        mode = image.mode if image.mode == "I;16" else "RGB"
        for top in range(0, image.height, BAND):
            band = image.crop((0, top, image.width, min(top + BAND, image.height)))
            sys.stdout.buffer.write((band if band.mode == mode else band.convert(mode)).tobytes())
    except MemoryError:
        sys.exit("error: decoding takes more than the memory that is allowed")
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        sys.exit("error: truncated or damaged" + (f": {detail}" if "BytesIO" not in detail else ""))
    sys.stderr.write(f"\n{mode} {image.width} {image.height}\n")


def limit_this_process(seconds: int, memory: int) -> None:
    """Limit the time and memory of this process, where the system can; a crash leaves no core file."""
    if os.name == "nt":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if sys.platform.startswith("linux"):  # others count what processes share
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files are not top-level modules
    limit_this_process(int(sys.argv[3]), int(sys.argv[4]))
    decode(sys.argv[1], int(sys.argv[2]))

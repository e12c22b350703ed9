"""Reading the images that scenes are made of: one that cannot be used is named in a warning, once, and skipped."""

import logging
from pathlib import Path
from typing import Dict, Optional, Set, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.sources import read_image

TRIES = 100  # images one after the other that may be unusable
CACHE_BYTES = 400e6  # of decoded images that are kept
log = logging.getLogger(__name__)

File = Union[str, Path]


class ImageReader:
    """Reads images, and keeps some of them decoded. `skipped`: the files that cannot be used."""

    def __init__(self) -> None:
        self.skipped: Set[File] = set()
        self.decoded: Dict[File, np.ndarray] = {}
        self.bytes = 0

    def read(self, file: File) -> Optional[np.ndarray]:
        """Read an image, BGR uint8 (h, w, 3); None if it cannot be read."""
        if file in self.skipped:
            return None
        try:
            return read_image(file)
        except AgedgeError as error:
            self.skip(file, str(error))
            return None

    def read_cached(self, file: File) -> Optional[np.ndarray]:
        """Read an image as `read` does, and keep it decoded as far as CACHE_BYTES allows."""
        if file in self.decoded:
            return self.decoded[file]
        image = self.read(file)
        if image is not None and self.bytes + image.nbytes <= CACHE_BYTES:
            self.decoded[file], self.bytes = image, self.bytes + image.nbytes
        return image

    def skip(self, file: File, reason: str) -> None:
        """Do not use a file again, and log why."""
        self.skipped.add(file)
        log.warning("left out: %s", reason)

    def none_readable(self, file: File) -> AgedgeError:
        """Return the error for TRIES unusable images, the last of them `file`."""
        return AgedgeError(f"{file}: cannot be read, or shows no face, like {len(self.skipped)} others")

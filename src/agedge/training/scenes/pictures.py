"""Pictures that scenes are made of, read from disk: one that cannot be used is told, once, and passed over."""

import logging
from typing import Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.sources import read_image

TRIES = 100  # pictures that may be unusable one after the other
KEPT = 400e6  # bytes of pictures that stay decoded
log = logging.getLogger(__name__)


class Pictures:
    """Reads images; `unused`: the files that are passed over."""

    def __init__(self):
        self.unused, self.decoded, self.bytes = set(), {}, 0

    def read(self, file) -> Optional[np.ndarray]:
        """An image, BGR uint8 (h, w, 3); None where it cannot be read."""
        if file in self.unused:
            return None
        try:
            return read_image(file)
        except AgedgeError as error:
            self.leave_out(file, str(error))
            return None

    def read_and_keep(self, file) -> Optional[np.ndarray]:
        """As `read`, for pictures that are few: decoded once, as far as KEPT allows."""
        if file in self.decoded:
            return self.decoded[file]
        image = self.read(file)
        if image is not None and self.bytes + image.nbytes <= KEPT:
            self.decoded[file], self.bytes = image, self.bytes + image.nbytes
        return image

    def leave_out(self, file, reason: str) -> None:
        self.unused.add(file)
        log.warning("left out: %s", reason)

    def none_left(self, file) -> AgedgeError:
        """What is wrong where TRIES pictures, the last of them `file`, were of no use."""
        return AgedgeError(f"{file}: like {len(self.unused)} others not to be read, or without a face that is wanted")

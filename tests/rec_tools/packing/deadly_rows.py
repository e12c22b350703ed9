"""Rows whose images end the worker that decodes them: imported by a worker, when it is given such a row, this file
replaces the decoder by one that dies of a marker in the image's bytes."""

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import parent_process

from rec_tools.packing import prepare
from rec_tools.rows import Row

KILLS, CRASHES, HANGS, KILLS_ONCE = b"KILLS", b"CRASHES", b"HANGS", b"ONCE:"


@dataclass(frozen=True)
class DeadlyRow(Row):
    """A row; what is deadly stands behind the end of its JPEG."""


def _decode(content, form, header=None):
    if content.endswith(KILLS):
        os.kill(os.getpid(), signal.SIGKILL)
    if content.endswith(CRASHES):
        os.kill(os.getpid(), signal.SIGSEGV)
    if content.endswith(HANGS):
        time.sleep(1000)
    if KILLS_ONCE in content:  # the name of a file that tells that it has been done
        mark = content.partition(KILLS_ONCE)[2].decode()
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return _real(content, form, header)


if parent_process() is not None:
    _real, prepare.decode_pixels = prepare.decode_pixels, _decode
    prepare.SECONDS = 6

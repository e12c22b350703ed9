"""The set-up of worker processes."""

import os
import threading
from multiprocessing import parent_process

import cv2


def start_worker() -> None:
    """Prepare this worker process: one thread, since workers run in parallel, and an end when its parent ends."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    parent = parent_process()
    assert parent is not None, "start_worker must be called in a child process"

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()

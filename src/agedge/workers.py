"""What worker processes have in common, whatever they do."""

import os
import threading
from multiprocessing import parent_process

import cv2


def start_worker() -> None:
    """One thread a worker: the workers are the parallelism. It ends with its parent, however that ends."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()

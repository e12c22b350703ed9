"""How MXNet's threads behave. It reads these settings once, when it is imported: call this before."""

import os

SETTINGS = {
    # GCC's OpenMP counts the threads of every thread that ever computed. Beyond the cores, as after the first
    # validation, its threads go to sleep at once where they wait for each other, unless they are to wait actively: the
    # stem of stride 2 then trains at 1,060 to 1,130 faces/s and not at 1,440 to 1,530 (2 cores).
    "OMP_WAIT_POLICY": "active",
    "GOMP_SPINCOUNT": "300000",  # its own where nothing is said: some 3 ms, then they sleep
    # Pieces of scratch memory; MXNet has four, which fill up over the first epochs.
    "MXNET_CPU_TEMP_COPY": "1",
}


def use_all_cores() -> None:
    """One thread a core, and threads that wait for each other actively, unless the environment says otherwise.

    By itself MXNet takes half of the cores, counting on two hardware threads each: on 2 cores MobileNet 0.25 then
    trains at 290 faces/s and not at 420.
    """
    for name, value in {"OMP_NUM_THREADS": str(count_cores()), **SETTINGS}.items():
        os.environ.setdefault(name, value)


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

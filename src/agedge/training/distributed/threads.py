"""Settings of MXNet's threads. MXNet reads them once, when it is imported: call `use_all_cores` before."""

import os

SETTINGS = {
    # GCC's OpenMP counts the threads of every thread that ever computed. Where they outnumber the cores, as after the
    # first validation, threads that wait for each other sleep at once unless they are set to wait actively. The network
    # with a stem of stride 2 then trains at 1,060 to 1,130 faces/s instead of 1,440 to 1,530 (2 cores).
    "OMP_WAIT_POLICY": "active",
    "GOMP_SPINCOUNT": "300000",  # OpenMP's own default: threads spin for some 3 ms, then they sleep
    # Blocks of scratch memory; MXNet's default is four, which fill up over the first epochs.
    "MXNET_CPU_TEMP_COPY": "1",
}


def use_all_cores() -> None:
    """Set one thread a core, and threads that wait actively, unless the environment has these settings already.

    By default MXNet uses half of the cores, since it expects two hardware threads for each: on 2 cores MobileNet 0.25
    then trains at 290 faces/s instead of 420.
    """
    for name, value in {"OMP_NUM_THREADS": str(count_cores()), **SETTINGS}.items():
        os.environ.setdefault(name, value)


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

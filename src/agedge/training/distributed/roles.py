"""The role of this process in a run on several machines: worker, server or scheduler."""

import ipaddress
import os

from agedge.errors import UsageError
from agedge.training.distributed.cluster import KINDS, serve

ROLES = ("worker", "server", "scheduler")
VARIABLES = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
SPLIT = 50_000  # values from which a vector is divided among several servers; MXNet's own default is a million
SECONDS = {"PS_HEARTBEAT_INTERVAL": 2, "PS_HEARTBEAT_TIMEOUT": 20}  # between heartbeats; until a process counts as lost


def find_role(kind: str) -> str:
    """Return this process's role for a KVStore of that kind: worker, server or scheduler.

    Call it before MXNet is imported: MXNet then reads the environment, to which defaults, such as the heartbeat's, are
    added here. Raises `UsageError` if a variable is missing or invalid, and if only the role is set.
    """
    role = os.environ.get("DMLC_ROLE", "")
    if kind not in KINDS:
        if role in ROLES[1:]:
            raise UsageError(f"DMLC_ROLE={role}: only with --kvstore {' or '.join(KINDS)}, not {kind}")
        return "worker"
    if missing := [name for name in VARIABLES if not os.environ.get(name)]:
        raise UsageError(
            f"--kvstore {kind}: {', '.join(missing)} not set (see docs/scale.md); on this machine, --launch N sets them"
        )
    if role not in ROLES:
        raise UsageError(f"DMLC_ROLE={role}: must be one of {', '.join(ROLES)}")
    for name in VARIABLES[2:]:
        require_count(name)
    os.environ.setdefault("MXNET_KVSTORE_BIGARRAY_BOUND", str(SPLIT))
    try:
        ipaddress.ip_address(os.environ["DMLC_PS_ROOT_URI"])
    except ValueError:  # ps-lite cannot listen at a host name; with this setting it listens at all addresses
        os.environ.setdefault("DMLC_USE_KUBERNETES", "1")
    for name, seconds in SECONDS.items():
        os.environ.setdefault(name, str(seconds))
        require_count(name)
    return role


def require_count(name: str) -> None:
    """Raise `UsageError` if a variable of the environment is not a whole number of at least 1."""
    if not os.environ[name].isdecimal() or not int(os.environ[name]):
        raise UsageError(f"{name}={os.environ[name]}: must be a whole number of at least 1")


def serve_unless_worker(kind: str) -> None:
    """Return in a worker; serve the workers of the run, and then end the process, in a server or scheduler.

    Raises `UsageError` as `find_role` does.
    """
    role = find_role(kind)
    if role != "worker":
        serve(role)

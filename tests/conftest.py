"""Seed each test: a random seed of its own, which a failure prints and AGEDGE_TEST_SEED repeats.

A test whose outcome depends on the seed (statistics with a margin, a training that must reach an accuracy) fixes its
own: `@pytest.mark.seed(20261122)`, with a comment that gives the reason.
"""

import os
import random
import sys
import zlib

import numpy as np
import pytest

VARIABLE = "AGEDGE_TEST_SEED"


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed of the session where the environment has none; worker processes inherit it."""
    config.addinivalue_line("markers", "seed(value): fix the random seed of a test whose outcome depends on it")
    os.environ.setdefault(VARIABLE, str(random.SystemRandom().randrange(10**6)))


def pytest_report_header(config: pytest.Config) -> str:
    return f"random seeds: {VARIABLE}={os.environ[VARIABLE]}"


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> int:
    """Seed Python, NumPy and, where it is loaded, MXNet; return the seed."""
    marker = request.node.get_closest_marker("seed")
    session = os.environ[VARIABLE]
    value = marker.args[0] if marker else zlib.crc32(f"{session} {request.node.nodeid}".encode()) % 2**31
    random.seed(value)
    np.random.seed(value)
    mxnet = sys.modules.get("mxnet")
    if mxnet is not None:
        mxnet.random.seed(value)
    request.node.add_report_section("setup", "seed", f"seed {value}; set {VARIABLE}={session} to repeat")
    return value

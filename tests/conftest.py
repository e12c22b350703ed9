"""Every test starts from the same seed, and a failure prints it."""

import random
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seed(request):
    value = 20261122
    random.seed(value)
    np.random.seed(value)
    mxnet = sys.modules.get("mxnet")
    if mxnet is not None:
        mxnet.random.seed(value)
    request.node.add_report_section("setup", "seed", f"seed {value}")
    return value

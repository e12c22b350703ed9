"""Every registered network, exported to ONNX and ncnn, has MXNet's outputs there, within the tolerances."""

import pytest

from tests.network_forms import MARKED, build
from tests.shipping import make_lively, ship


@pytest.mark.parametrize("form", MARKED)
def test_exported_networks_say_what_mxnet_says(form, tmp_path):
    spread = ship(make_lively(build(form)), tmp_path)  # raises over a tolerance
    assert min(spread.values()) > 5e-3, "equal answers would prove nothing"

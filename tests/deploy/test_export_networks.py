"""Every registered network, exported to ONNX and ncnn, says there what it says in MXNet: within the gates."""

import pytest
from network_forms import FORMS, build
from shipping import make_lively, ship

LARGE = ("efficientnetv2_s", "mobilenet100", "resnet18", "resnet34", "resnet50")


@pytest.mark.parametrize("form", [pytest.param(f, marks=[pytest.mark.slow] * (f in LARGE)) for f in FORMS])
def test_exported_networks_say_what_mxnet_says(form, tmp_path):
    spread = ship(make_lively(build(form)), tmp_path)  # raises over a gate
    assert min(spread.values()) > 5e-3, "equal answers would prove nothing"

"""The shipped network itself, at its size: from Gluon to every format, within the tolerances."""

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

import symbols
from agedge.runtime import load_model, save_model
from agedge.runtime.model import to_network_input
from deploy.export import export_model
from tests.small_networks import describe, faces


def test_mobilenet025_at_112(tmp_path):
    network = symbols.create("mobilenet025", size=112)
    network.initialize_for_training(mx.cpu())
    images = faces(16, size=112)
    data = mx.nd.array(to_network_input(images))
    network(data)
    for name, value in network.collect_params().items():
        if name.endswith("gamma"):  # not 1, as after training
            value.set_data(mx.nd.random.uniform(0.6, 1.4, value.shape))
    # One step with momentum 0 takes over the statistics of these images, so that answers differ; it is the backward
    # pass that writes them.
    network.apply(lambda block: block._kwargs.update(momentum=0) if isinstance(block, nn.BatchNorm) else None)
    with mx.autograd.record():
        total = network(data)[0].sum()
    total.backward()
    card = describe("mobilenet025", size=112, training={"data": "none: random weights"})
    save_model(network.slim(), card, tmp_path / "model")
    forms = export_model(tmp_path / "model", ["onnx", "ncnn"], tmp_path / "model")
    assert [form.runtime for form in forms] == ["mxnet", "onnx", "ncnn", "ncnn-fp16"]
    assert all(form.size < 1.2e6 for form in forms)
    mine = load_model(tmp_path / "model").predict(images)
    assert np.ptp(mine.age) > 0.3  # answers must differ by far more than the tolerances, or equality means nothing
    for runtime, limit in (("onnx", 1e-4), ("ncnn", 5e-4), ("ncnn-fp16", 0.3)):
        other = load_model(tmp_path / "model", runtime).predict(images)
        np.testing.assert_allclose(other.age, mine.age, atol=limit)
        np.testing.assert_allclose(other.p_male, mine.p_male, atol=limit / 10)

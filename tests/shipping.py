"""Export a network with random weights and lively answers, for the tests that prove it survives ONNX and ncnn."""

import mxnet as mx
import numpy as np
from mxnet import autograd, nd
from mxnet.gluon import nn

from agedge.runtime import Card, load_card, save_model
from agedge.runtime.model import open_model
from deploy.export import export_model
from deploy.probe_images import draw_probes
from symbols.agmixer import AGMixer
from symbols.network import AgeGenderNet

MODERATE = 0.05  # spread of the logits, over faces


def make_lively(network, passes=40):
    """Random weights, and BatchNorm statistics of the pictures that they see: every face is answered otherwise.

    Without such statistics the features of a deep network grow to 1e4, and ages differ by years for rounding alone.
    Steep answers do the same in small: with logits four times as large, EfficientNetV2-B0's ages at 32 pixels were in
    MXNet 4.0e-4 years from float64, in ONNX Runtime 1.3e-4, and so over ONNX's tolerance. Small networks with heads of
    their own keep the weights that training begins with.
    """
    if isinstance(network, (AgeGenderNet, AGMixer)):
        network.initialize(mx.init.Xavier("gaussian", "in", 2), force_reinit=True)
    random = np.random.RandomState(3)
    faces = nd.array(draw_probes(network.size)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))
    network(faces[:1])
    for name, parameter in network.collect_params().items():
        if name.endswith("gamma") and parameter.grad_req != "null":
            parameter.set_data(nd.array(random.uniform(0.5, 1.5, parameter.shape)))
        elif name.endswith("beta"):
            parameter.set_data(nd.array(random.uniform(-0.3, 0.3, parameter.shape)))
    dropouts = []
    network.apply(lambda each: dropouts.append((each, each._rate)) if isinstance(each, nn.Dropout) else None)
    for dropout, _ in dropouts:
        dropout._rate = 0  # the statistics are to be those of inference
    for _ in range(passes):
        with autograd.record():
            answers = sum(output.sum() for output in network(faces))
        answers.backward()  # which is when MXNet moves the statistics
    for dropout, rate in dropouts:
        dropout._rate = rate
    # Features of a deep backbone are large: its heads answer them moderately.
    heads = ()
    if isinstance(network, AgeGenderNet):
        heads = zip((network.age, network.gender), network(faces))
    elif isinstance(network, AGMixer):
        heads = zip((network.age2, network.gender.head), network(faces)[1:])
    for head, logits in heads:
        spread = logits.asnumpy().std(axis=0).mean()
        head.dense.weight.set_data(head.dense.weight.data() * MODERATE / spread)
    return network


def ship(network, folder):
    """Export to ONNX and ncnn, which `deploy` proves to say what MXNet says. Returns how much each answer differs over
    drawn pictures, {name: largest range}."""
    name = network.arguments["name"].replace(":", "-")
    shape = {"name": "data", "size": network.size, "channels": "RGB", "range": [0, 255]}
    slim = network.slim()
    slim(nd.zeros((1, 3, network.size, network.size)))
    card = Card(name=name, network=network.arguments, input=shape, outputs=dict(network.answers))
    save_model(slim, card, folder / "model")
    forms = export_model(folder / "model", ["onnx", "ncnn"], folder / "out")
    assert {form.runtime for form in forms} == {"mxnet", "onnx", "ncnn", "ncnn-fp16"}
    said = open_model(load_card(folder / "out"), "mxnet").raw_outputs(draw_probes(network.size))
    return {answer: float(np.ptp(value, axis=0).max()) for answer, value in said.items()}

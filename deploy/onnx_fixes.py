"""What has to be put right before, during and after `mxnet.onnx.export_model` of MXNet 1.9.1, a function a fault.

Without them the exporter fails, or is silently wrong: a BatchNorm whose gamma was meant to be 1 moved logits by 4.7.
"""

import logging
import sys
import types
from contextlib import contextmanager
from typing import Dict, List, Tuple
from unittest import mock

import numpy as np

from agedge.errors import AgedgeError
from deploy.graph import Edge, Node, is_true, replace, variable, walk

OPSET, IR = 13, 8  # what the exporter's translations were written for


# ---- before: the graph and its weights ---------------------------------------------------------------------------


def write_fixed_gammas(heads: List[Edge], args: dict) -> dict:
    """`fix_gamma` means that gamma counts as 1, whatever stands in the file, and it is on where it is absent; the
    exporter writes the file's numbers. Returns the weights with ones there."""
    mended = dict(args)
    for node in walk(heads):
        if node.op == "BatchNorm" and is_true(node, "fix_gamma", default=True):
            gamma = node.inputs[1][0].name
            mended[gamma] = mended[gamma].ones_like()
    return mended


def write_zero_biases(heads: List[Edge], args: dict) -> Tuple[List[Edge], dict]:
    """A dense layer without bias comes out with one number 0 for it: legal ONNX, but pnnx makes a layer of it that ncnn
    does not have. Returns (heads, weights) with a 0 for each unit."""
    from mxnet import nd

    mended = dict(args)

    def change(node: Node):
        if node.op != "FullyConnected" or not is_true(node, "no_bias", default=False):
            return None
        bias = f"{node.name}_zero_bias"
        mended[bias] = nd.zeros(int(node.attrs["num_hidden"]))
        attrs = {**node.attrs, "no_bias": "False"}
        return [(Node(node.op, node.name, [*node.inputs[:2], (variable(bias), 0)], attrs), 0)]

    return replace(heads, change), mended


def spell_out_flatten(heads: List[Edge], shapes: Dict[str, List[tuple]]) -> List[Edge]:
    """FullyConnected flattens by default; the exporter takes an absent `flatten` for False. Where the input is (N, C)
    already it makes no difference, and True gives one plain Gemm."""

    def change(node: Node):
        if node.op == "FullyConnected":
            source, index = node.inputs[0]
            if is_true(node, "flatten", default=True) or len(shapes[source.name][index]) == 2:
                node.attrs["flatten"] = "True"

    return replace(heads, change)


def slice_instead_of_split(heads: List[Edge], shapes: Dict[str, List[tuple]]) -> List[Edge]:
    """The exporter's Split carries no sizes: legal, but pnnx makes an empty Slice of it, and ncnn crashes on that."""

    def change(node: Node):
        if node.op != "SliceChannel":
            return None
        source, index = node.inputs[0]
        axis, count = int(node.attrs.get("axis", "1")), int(node.attrs["num_outputs"])
        width = shapes[source.name][index][axis] // count
        parts = []
        for part in range(count):
            attrs = {"axis": str(axis), "begin": str(part * width), "end": str((part + 1) * width)}
            cut = Node("slice_axis", f"{node.name}_slice{part}", [(source, index)], attrs)
            if is_true(node, "squeeze_axis", default=False):
                cut = Node("squeeze", f"{node.name}_squeeze{part}", [(cut, 0)], {"axis": f"({axis},)"})
            parts.append((cut, 0))
        return parts

    return replace(heads, change)


def compare_without_comparison(heads: List[Edge]) -> List[Edge]:
    """ncnn has no "greater": x > s is ceil(clip(x - s, 0, 1)), exactly."""

    def change(node: Node):
        if node.op != "_greater_scalar":
            return None
        less = Node("_minus_scalar", node.name + "_less", node.inputs, {"scalar": node.attrs["scalar"]})
        clip = Node("clip", node.name + "_clip", [(less, 0)], {"a_min": "0", "a_max": "1"})
        return [(Node("ceil", node.name, [(clip, 0)]), 0)]

    return replace(heads, change)


def rename_operations(heads: List[Edge]) -> None:
    """The exporter makes names by appending `_1` and the like, so that operations `x` and `x_1` collide: number all of
    them, with a sign at the end that no appended name can imitate."""
    for index, node in enumerate(walk(heads)):
        if node.op != "null":
            node.name = f"{node.name}/{index}/"


# ---- during: the packages as the exporter knew them --------------------------------------------------------------


@contextmanager
def as_the_exporter_knew_it():
    """Everything that the exporter needs patched, and undone afterwards."""
    with provide_mapping(), stamp_opset(), skip_newest_check(), keep_root_log_quiet():
        yield


@contextmanager
def provide_mapping():
    """onnx 1.19 took away the module `onnx.mapping`; the exporter's own error says that onnx is not installed."""
    import onnx
    from onnx import helper

    try:
        from onnx import mapping  # noqa: F401
    except ImportError:
        types_of = {
            np.dtype(name): helper.np_dtype_to_tensor_dtype(np.dtype(name))
            for name in ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool")
        }
        module = types.ModuleType("onnx.mapping")
        module.NP_TYPE_TO_TENSOR_TYPE = types_of
        module.TENSOR_TYPE_TO_NP_TYPE = {value: key for key, value in types_of.items()}
        attribute = mock.patch.object(onnx, "mapping", module, create=True)
        with mock.patch.dict(sys.modules, {"onnx.mapping": module}), attribute:
            yield
    else:
        yield


@contextmanager
def stamp_opset():
    """The exporter stamps the newest opset and IR of the installed onnx on its opset-13 graph; ONNX Runtime refuses."""
    import onnx.defs
    import onnx.helper

    make_model = onnx.helper.make_model

    def make_old_model(graph, **arguments):
        arguments.update(opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR)
        return make_model(graph, **arguments)

    version = mock.patch.object(onnx.defs, "onnx_opset_version", lambda: OPSET)
    with version, mock.patch.object(onnx.helper, "make_model", make_old_model):
        yield


@contextmanager
def skip_newest_check():
    """It checks its graph against the newest schema, which rejects opset 13's ReduceMean. `to_onnx` checks it all."""
    import onnx.checker

    with mock.patch.object(onnx.checker, "check_graph", lambda *_, **__: None):
        yield


@contextmanager
def keep_root_log_quiet():
    """It tells the root logger the names of our temporary files."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)


# ---- after: the ONNX model ---------------------------------------------------------------------------------------


def shape_prelu_slopes(model, ranks: Dict[str, int]) -> None:
    """A slope per channel must be (C, 1, 1) beside a (N, C, H, W) input, and (C,) after a dense layer; the exporter
    always writes (C,), which broadcasts along the width. `ranks`: of every operation's output."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "PRelu" and node.input[1] in weights:
            slope = weights[node.input[1]]
            if len(slope.dims) == 1 and slope.dims[0] > 1:
                slope.dims.extend([1] * (ranks[node.name] - 2))


def strip_weights_from_inputs(model, order: List[str]) -> None:
    """Every weight is listed as an input too. What is left are the true inputs, in the order given."""
    inputs = {value.name: value for value in model.graph.input}
    kept = [inputs[name] for name in order]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def name_outputs(model, outputs: Dict[str, str], shapes: Dict[str, tuple]) -> None:
    """Outputs come out in an order of the exporter's and under renamed operations: give them, in ours, their names.

    `outputs`: name in the graph -> name to be; `shapes`: by the name to be, words standing for any size.
    """
    from onnx import TensorProto, helper

    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = outputs.get(name, name)
    del model.graph.output[:]
    for name in outputs.values():
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shapes[name]))
        model.graph.output.append(value)


def require_output_nodes(model, outputs: Dict[str, str]) -> None:
    """Raises `AgedgeError` where an output did not arrive in the ONNX graph at all."""
    made = {name for node in model.graph.node for name in node.output}
    lost = [name for node, name in outputs.items() if node not in made]
    if lost:
        raise AgedgeError(f"ONNX: the exporter lost the outputs {', '.join(lost)}")

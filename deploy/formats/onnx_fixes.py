"""Fixes before, during and after `mxnet.onnx.export_model` of MXNet 1.9.1, one function per fault.

Without them the exporter fails, or is silently wrong: a BatchNorm with a fixed gamma of 1 moved logits by 4.7.
"""

import logging
import sys
import types
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Dict, Iterator, List, Optional, Tuple
from unittest import mock

import numpy as np

from agedge.errors import AgedgeError
from deploy.graph import Edge, Node, is_true, replace, variable, walk

OPSET, IR = 13, 8  # what the exporter's translations were written for


# ---- before: the graph and its weights ---------------------------------------------------------------------------


def write_fixed_gammas(heads: List[Edge], args: Dict[str, Any]) -> Dict[str, Any]:
    """Return the weights with ones for the gammas of BatchNorms with `fix_gamma`.

    Such a gamma counts as 1, whatever the file holds, and `fix_gamma` is on by default; the exporter writes the file's
    values.
    """
    fixed = dict(args)
    for node in walk(heads):
        if node.op == "BatchNorm" and is_true(node, "fix_gamma", default=True):
            gamma = node.inputs[1][0].name
            fixed[gamma] = fixed[gamma].ones_like()
    return fixed


def write_zero_biases(heads: List[Edge], args: Dict[str, Any]) -> Tuple[List[Edge], Dict[str, Any]]:
    """Return (heads, weights) in which dense layers without bias have one of zeros, a 0 per unit.

    The exporter writes a single 0 for it: legal ONNX, but pnnx turns it into a layer that ncnn does not have.
    """
    from mxnet import nd

    fixed = dict(args)

    def change(node: Node) -> Optional[List[Edge]]:
        if node.op != "FullyConnected" or not is_true(node, "no_bias", default=False):
            return None
        bias = f"{node.name}_zero_bias"
        fixed[bias] = nd.zeros(int(node.attrs["num_hidden"]))
        attrs = {**node.attrs, "no_bias": "False"}
        return [(Node(node.op, node.name, [*node.inputs[:2], (variable(bias), 0)], attrs), 0)]

    return replace(heads, change), fixed


def spell_out_flatten(heads: List[Edge], shapes: Dict[str, List[tuple]]) -> List[Edge]:
    """Set `flatten` of FullyConnected, which is on by default; the exporter takes an absent one for False.

    Where the input is (N, C) already it makes no difference, and True gives one plain Gemm.
    """

    def change(node: Node) -> Optional[List[Edge]]:
        if node.op == "FullyConnected":
            source, index = node.inputs[0]
            if is_true(node, "flatten", default=True) or len(shapes[source.name][index]) == 2:
                node.attrs["flatten"] = "True"

    return replace(heads, change)


def slice_instead_of_split(heads: List[Edge], shapes: Dict[str, List[tuple]]) -> List[Edge]:
    """Replace SliceChannel by slices: the exporter's Split has no sizes, and pnnx makes an empty Slice of it.

    Such a Split is legal ONNX, but ncnn crashes on the empty Slice.
    """

    def change(node: Node) -> Optional[List[Edge]]:
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
    """Replace "greater", which ncnn does not have: x > s is ceil(clip(x - s, 0, 1)), exactly."""

    def change(node: Node) -> Optional[List[Edge]]:
        if node.op != "_greater_scalar":
            return None
        less = Node("_minus_scalar", node.name + "_less", node.inputs, {"scalar": node.attrs["scalar"]})
        clip = Node("clip", node.name + "_clip", [(less, 0)], {"a_min": "0", "a_max": "1"})
        return [(Node("ceil", node.name, [(clip, 0)]), 0)]

    return replace(heads, change)


def rename_operations(heads: List[Edge]) -> None:
    """Number all operations, with a slash at the end: the exporter appends `_1`, which must not give another's name."""
    for index, node in enumerate(walk(heads)):
        if node.op != "null":
            node.name = f"{node.name}/{index}/"


# ---- during: the packages as the exporter expects them -----------------------------------------------------------


@contextmanager
def patch_exporter() -> Iterator[None]:
    """Patch onnx as the exporter needs it, and undo that afterwards."""
    with provide_mapping(), stamp_opset(), skip_newest_check(), keep_root_log_quiet():
        yield


@contextmanager
def provide_mapping() -> Iterator[None]:
    """Provide the module `onnx.mapping`, which onnx 1.19 removed; the exporter reports that onnx is not installed."""
    import onnx
    from onnx import helper

    try:
        import_module("onnx.mapping")
    except ImportError:
        module: Any = types.ModuleType("onnx.mapping")
        module.NP_TYPE_TO_TENSOR_TYPE = {}
        for name in ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"):
            dtype: Any = np.dtype(name)
            module.NP_TYPE_TO_TENSOR_TYPE[dtype] = helper.np_dtype_to_tensor_dtype(dtype)
        module.TENSOR_TYPE_TO_NP_TYPE = {value: key for key, value in module.NP_TYPE_TO_TENSOR_TYPE.items()}
        attribute = mock.patch.object(onnx, "mapping", module, create=True)
        with mock.patch.dict(sys.modules, {"onnx.mapping": module}), attribute:
            yield
    else:
        yield


@contextmanager
def stamp_opset() -> Iterator[None]:
    """Write opset 13 into the model; the exporter writes the newest of the installed onnx, and ONNX Runtime refuses."""
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
def skip_newest_check() -> Iterator[None]:
    """Skip the exporter's check against the newest schema, which rejects opset 13's ReduceMean; `to_onnx` checks it."""
    import onnx.checker

    with mock.patch.object(onnx.checker, "check_graph", lambda *_, **__: None):
        yield


@contextmanager
def keep_root_log_quiet() -> Iterator[None]:
    """Silence the root logger, to which the exporter logs the names of temporary files."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)


# ---- after: the ONNX model ---------------------------------------------------------------------------------------


def shape_prelu_slopes(model: Any, ranks: Dict[str, int]) -> None:
    """Shape the slopes of PReLU as (C, 1, 1) for a (N, C, H, W) input, and as (C,) after a dense layer.

    The exporter always writes (C,), which broadcasts along the width. `ranks`: of every operation's output.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "PRelu" and node.input[1] in weights:
            slope = weights[node.input[1]]
            if len(slope.dims) == 1 and slope.dims[0] > 1:
                slope.dims.extend([1] * (ranks[node.name] - 2))


def strip_weights_from_inputs(model: Any, order: List[str]) -> None:
    """Keep the inputs `order` only, in that order: the exporter lists every weight as an input too."""
    inputs = {value.name: value for value in model.graph.input}
    kept = [inputs[name] for name in order]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def name_outputs(model: Any, outputs: Dict[str, str], shapes: Dict[str, tuple]) -> None:
    """Name the outputs as in the card, and in its order; the exporter has its own order and names.

    `outputs`: {name in the graph: new name}; `shapes`: by new name, with names for dimensions of any size.
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


def require_output_nodes(model: Any, outputs: Dict[str, str]) -> None:
    """Raise `AgedgeError` if an output is missing in the ONNX graph."""
    made = {name for node in model.graph.node for name in node.output}
    lost = [name for node, name in outputs.items() if node not in made]
    if lost:
        raise AgedgeError(f"ONNX: the exporter lost the outputs {', '.join(lost)}")

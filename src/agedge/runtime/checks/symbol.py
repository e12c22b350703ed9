"""Check an MXNet graph, PREFIX-symbol.json, before MXNet reads it.

Some operators call a pointer from the file, load other files or run code, and MXNet does not validate indices. MXNet
gets a graph that is rewritten from the checked content.
"""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

from agedge.errors import AgedgeError

MOST_BYTES = 8 << 20  # ResNet-152's file has 0.4 MB
MOST_NODES = 20_000  # the same has 2,000
LONGEST = 1000  # characters of a name or of an attribute
LARGEST = 1 << 24  # an integer in an attribute: the largest that a float32 counts to
DEEPEST = 8  # axes of an array
MANY = 1000


def _table(groups: Dict[Tuple[int, int], str]) -> Dict[str, Tuple[int, int]]:
    return {op: bounds for bounds, ops in groups.items() for op in ops.split()}


# {operator: (fewest, most inputs)}: what the networks of this repository, GluonCV's and the usual public checkpoints
# are made of. Before MXNet 0.9 the statistics of BatchNorm were not inputs.
OPERATORS = _table(
    {
        (0, 0): "_arange _zeros _ones _full",
        (1, 1): """Activation BlockGrad Cast Dropout Flatten L2Normalization LRN MakeLoss Pad Pooling Pooling_v1 Reshape
            SliceChannel SoftmaxActivation SwapAxis _contrib_AdaptiveAvgPooling2D _contrib_arange_like
            _DivScalar _MaximumScalar _MinimumScalar _MinusScalar _MulScalar _PlusScalar _PowerScalar _RDivScalar
            _RMinusScalar _RPowerScalar _contrib_div_sqrt_dim _copy _div_scalar
            _equal_scalar _greater_equal_scalar _greater_scalar
            _lesser_equal_scalar _lesser_scalar _maximum_scalar _minimum_scalar _minus_scalar _mod_scalar _mul_scalar
            _not_equal_scalar _plus_scalar _power_scalar _rdiv_scalar _rminus_scalar _rpower_scalar _split_v2 abs
            amp_cast arccos arcsin arctan argmax argmin argsort broadcast_axis broadcast_axes broadcast_to cast cbrt
            ceil clip cos cosh depth_to_space erf exp expand_dims expm1 fix flatten flip floor gamma gammaln
            hard_sigmoid identity log log10 log1p log2 log_softmax logical_not make_loss max max_axis mean min min_axis
            nanprod nansum negative norm one_hot ones_like pad prod radians rcbrt reciprocal relu repeat reshape reverse
            rint round rsqrt shape_array sigmoid sign sin sinh size_array slice slice_axis smooth_l1 softmin softsign
            sort space_to_depth split sqrt square squeeze stop_gradient sum sum_axis swapaxes tan tanh tile topk
            transpose trunc zeros_like""",
        (1, 2): """Crop Embedding LeakyReLU LinearRegressionOutput LogisticRegressionOutput MAERegressionOutput
            SVMOutput Softmax SoftmaxOutput UpSampling _contrib_BilinearResize2D softmax""",
        (
            2,
            2,
        ): """_Div _Maximum _Minimum _Minus _Mul _Plus _Power
            _equal _greater _greater_equal _lesser _lesser_equal _maximum _minimum _minus _mod _mul _not_equal
            _plus _power _add _sub _div _grad_add _linalg_gemm2 batch_dot broadcast_add broadcast_div broadcast_equal
            broadcast_greater broadcast_greater_equal broadcast_hypot broadcast_lesser broadcast_lesser_equal
            broadcast_like broadcast_logical_and broadcast_logical_or broadcast_logical_xor broadcast_maximum
            broadcast_minimum broadcast_minus broadcast_mod broadcast_mul broadcast_not_equal broadcast_plus
            broadcast_power broadcast_sub dot elemwise_add elemwise_div elemwise_mul elemwise_sub pick reshape_like
            slice_like softmax_cross_entropy take""",
        (2, 3): "Convolution Convolution_v1 Deconvolution FullyConnected InstanceNorm",
        (3, 3): "GroupNorm LayerNorm where",
        (3, 5): "BatchNorm BatchNorm_v1 _contrib_BatchNormWithReLU _contrib_SyncBatchNorm",
        (1, MANY): "Concat ElementWiseSum add_n amp_multicast concat stack",
    }
)
# Attributes of which every number is at least one: MXNet divides by them.
POSITIVE = {"dilate", "block_size", "kernel", "num_args", "num_filter", "num_group", "num_groups", "num_hidden"} | {
    *("num_outputs", "nsize", "output_size", "scale", "stride")
}
NOT_NEGATIVE = {"adj", "pad", "pad_width", "reps", "repeats"}
AXES = {"axis", "axes", "axis1", "axis2", "dim", "dim1", "dim2", "batch_axis"}
OUTPUTS = {"BatchNorm": 3, "BatchNorm_v1": 3, "_contrib_SyncBatchNorm": 3, "LayerNorm": 3}
OUTPUTS.update({"_contrib_BatchNormWithReLU": 4, "GroupNorm": 3, "InstanceNorm": 3})
OUTPUTS.update({"Dropout": 2, "LeakyReLU": 2, "LRN": 2, "L2Normalization": 2, "topk": 2})
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def load_symbol(path: Union[str, Path]) -> Any:
    """Return the `mx.sym.Symbol` of a file.

    Raises `AgedgeError`, one line, if it is missing or not a graph of known operators.
    """
    import mxnet as mx

    graph = read_symbol(path)
    try:
        return mx.sym.load_json(graph)
    except (mx.MXNetError, UnicodeError) as error:
        raise AgedgeError(f"{path}: not an MXNet symbol, or damaged") from error


def read_symbol(path: Union[str, Path]) -> str:
    """Return the JSON of a checked graph, for MXNet to read. Raises as `load_symbol` does."""
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES >> 20} MB")
        return json.dumps(_check(json.loads(path.read_bytes().decode("utf-8"))), ensure_ascii=False)
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such file") from None
    except RecursionError:
        raise AgedgeError(f"{path}: not an MXNet symbol, or damaged: nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise AgedgeError(f"{path}: not an MXNet symbol, or damaged: {reason}") from None


def _check(graph: dict) -> dict:
    """Return the graph with nothing that MXNet does not need. Raises one of Python's errors."""
    nodes = graph["nodes"]
    if not isinstance(nodes, list) or not 0 < len(nodes) <= MOST_NODES:
        raise ValueError(f"a graph has 1 to {MOST_NODES:,} nodes")
    clean: List[dict] = []
    outputs: List[int] = []
    for index, node in enumerate(nodes):
        clean.append(_check_node(node, outputs))
        outputs.append(_count_outputs(clean[index]))
    variables = [index for index, node in enumerate(clean) if node["op"] == "null"]
    arguments = graph.get("arg_nodes", variables)
    if not isinstance(arguments, list) or not set(arguments) <= set(variables):
        raise ValueError("arg_nodes must list inputs only")
    heads = [_check_edge(edge, outputs, "a head") for edge in graph["heads"]]
    if not 0 < len(heads) <= MANY:
        raise ValueError(f"a graph has 1 to {MANY} outputs")
    checked = {"nodes": clean, "arg_nodes": arguments, "heads": heads}
    version = graph.get("attrs", {}).get("mxnet_version")
    if version is not None:
        kind, number = version
        if kind != "int" or not _is_count(number):
            raise ValueError("mxnet_version is not a number")
        checked["attrs"] = {"mxnet_version": ["int", number]}
    return checked


def _check_node(node: dict, outputs: list) -> dict:
    op, name = _text(node["op"]), _text(node["name"])
    if op != "null" and op not in OPERATORS:
        raise ValueError(f"the operator {op} of {name} is not one that is run")
    for key in ("subgraphs", "control_deps"):
        if node.get(key):
            raise ValueError(f"{name} has {key}, which are not run")
    inputs = [_check_edge(edge, outputs, name) for edge in node["inputs"]]
    fewest, most = OPERATORS.get(op, (0, 0))
    if not fewest <= len(inputs) <= most:
        raise ValueError(f"{name} ({op}) has {len(inputs)} inputs")
    clean = {"op": op, "name": name, "inputs": inputs}
    # Files of MXNet before 0.9 have "param" and "attr", those before 1.0 "attr".
    for key in ("attrs", "attr", "param"):
        if node.get(key):
            # Without hints of training and of shapes: MXNet would use a shape that is not the array's.
            values = {each: value for each, value in node[key].items() if not each.startswith("__")}
            for each, value in values.items():
                _check_attribute(f"{name}: {_text(each)}", each, _text(value, lines=True))
            clean[key] = values
    if "param" in node:
        clean.setdefault("param", {})
        clean["backward_source_id"] = -1  # the reader of that format expects it
    return clean


def _check_attribute(what: str, name: str, value: str) -> None:
    """Raise `ValueError` for a number that MXNet would divide by, or allocate memory for, without a check."""
    integers = [float(found) for found in NUMBER.findall(value)]
    if name not in ("scalar", "a_min", "a_max", "eps") and any(abs(number) > LARGEST for number in integers):
        raise ValueError(f"{what} is {value[:40]}, over {LARGEST:,}")
    if name in POSITIVE and any(number < 1 for number in integers) and not (name == "scale" and "." in value):
        raise ValueError(f"{what} is {value[:40]}, which must be at least 1")
    if name in NOT_NEGATIVE and any(number < 0 for number in integers):
        raise ValueError(f"{what} is {value[:40]}, which must not be negative")
    if name in AXES and any(abs(number) > DEEPEST for number in integers):
        raise ValueError(f"{what} is {value[:40]}: no array has such axes")


def _check_edge(edge: list, outputs: list, what: str) -> list:
    """Return an edge (node, which of its outputs, version); `outputs`: how many each earlier node has."""
    if not isinstance(edge, list) or len(edge) not in (2, 3) or not all(map(_is_count, edge)):
        raise ValueError(f"an input of {what} is not two or three numbers")
    if edge[0] >= len(outputs):
        raise ValueError(f"an input of {what} is node {edge[0]}, which does not come before it")
    if edge[1] >= outputs[edge[0]]:
        raise ValueError(f"an input of {what} is output {edge[1]} of a node that has {outputs[edge[0]]}")
    return edge


def _count_outputs(node: dict) -> int:
    if node["op"] in ("SliceChannel", "split", "_split_v2"):
        values = {**node.get("param", {}), **node.get("attr", {}), **node.get("attrs", {})}
        found = re.fullmatch(r"\d{1,4}", values.get("num_outputs", values.get("sections", "")))
        return int(found[0]) if found else MANY
    return OUTPUTS.get(node["op"], 1)


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 31


def _text(value: Any, lines: bool = False) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError(f"a name or an attribute is not a text of at most {LONGEST} characters")
    if not (value.replace("\n", "").replace("\t", "") if lines else value).isprintable():
        raise ValueError(f"{value[:40]!r} is not printable")
    return value

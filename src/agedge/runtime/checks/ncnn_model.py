"""Check ncnn's .param and .bin before ncnn reads them: ncnn does not validate counts, names and sizes, and may crash.

.param is text: 7767517, the numbers of layers and blobs, then for each layer its type, name, numbers of inputs and
outputs, their blobs, and parameters `number=value`, or `-(23300 + number)=count,value,...` for arrays. .bin holds the
weights of the layers in their order: those that may be fp16 after a tag of 4 bytes, biases and slopes as fp32.
"""

import math
import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple, Union

from agedge.errors import AgedgeError

MAGIC = "7767517"
MOST_BYTES = 1 << 20  # of a .param; the shipped ones have 9 KB
MOST = 10_000  # layers, and blobs; the shipped models have 135
ARRAY, MOST_PARAMETERS, LONGEST_ARRAY = 23300, 32, 64  # the first two as in ncnn's paramdict.h
LARGEST = 1 << 24  # largest parameter, as in `check_symbol`
FP16 = 0x01306B47  # the tag of weights in fp16; 0 is that of fp32
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise")
# {type: (inputs, outputs)}; None: any number, at least one.
LAYERS: Dict[str, Tuple[Optional[int], Optional[int]]] = {
    "Input": (0, 1),
    "MemoryData": (0, 1),
    "Split": (1, None),
    "Slice": (1, None),
}
LAYERS.update({name: (None, 1) for name in ("BinaryOp", "Concat", "Crop", "Eltwise", "Interp", "Reshape")})
LAYERS.update({name: (None, 1) for name in ("Gemm", "MatMul", "MultiHeadAttention")})
_ONE = "BatchNorm BNLL Clip Dropout ELU ExpandDims Flatten GELU HardSigmoid HardSwish InnerProduct LRN Mish Noop "
_ONE += "Normalize Packing Padding Permute Pooling Power PReLU Reduction ReLU Scale SELU ShuffleChannel Sigmoid "
_ONE += "Softmax Softplus Squeeze Swish TanH UnaryOp Embed GroupNorm InstanceNorm LayerNorm"
LAYERS.update({name: (1, 1) for name in (*_ONE.split(), *CONVOLUTIONS)})
POSITIVE = {  # by type, the parameters that ncnn divides by: kernel, dilation, stride, group
    **{name: (0, 1, 2, 3, 7, 11, 12, 13) for name in CONVOLUTIONS},
    "Pooling": (1, 2, 11, 12),
    "ShuffleChannel": (0,),
}
# By type, the parameters that may be fractions, and those that are arrays: ncnn misreads the bits of another kind.
FRACTIONS = {"BinaryOp": {2}, "Clip": {0, 1}, "ELU": {0}, "HardSigmoid": {0, 1}, "HardSwish": {0, 1}, "Interp": {1, 2}}
FRACTIONS.update(
    {"LRN": {2, 3, 4}, "Normalize": {2}, "Padding": {4}, "Power": {0, 1, 2}, "Reduction": {2}, "ReLU": {0}}
)
FRACTIONS.update({"LayerNorm": {1}, "InstanceNorm": {1}, "GroupNorm": {2}, "Gemm": {0, 1}, "MultiHeadAttention": {6}})
FRACTIONS.update({"BatchNorm": {1}, "Dropout": {0}, "SELU": {0, 1}, **{name: {18} for name in CONVOLUTIONS}})
ARRAYS = {"Crop": {9, 10, 11}, "Eltwise": {1}, "InnerProduct": {10}, "Reduction": {3}, "Slice": {0, 2}}
ARRAYS.update({"ExpandDims": {3}, "Squeeze": {3}, **{name: {10} for name in CONVOLUTIONS}})
MOST_SIDE = 2048  # of the output of Interp
NUMBER = re.compile(r"[-+]?(\d{1,10}|\d*\.\d+|\d+\.)([eE][-+]?\d{1,3})?")


def check_ncnn(param: Union[str, Path], weights: Union[str, Path], blobs: List[str]) -> None:
    """Check both files. `blobs`: the blob names in the card. Raises `AgedgeError`, one line that names the file."""
    param, weights = Path(param), Path(weights)
    try:
        if param.stat().st_size > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES >> 20} MB")
        layers = _read_layers(param.read_bytes().decode("ascii").splitlines(), blobs)
    except FileNotFoundError:
        raise AgedgeError(f"{param}: no such file") from None
    except ValueError as error:
        raise AgedgeError(f"{param}: not an ncnn .param file, or damaged: {error}") from None
    try:
        _check_weights(weights, layers)
    except ValueError as error:
        raise AgedgeError(f"{weights}: damaged, or not the weights of {param.name}: {error}") from None


def _read_layers(lines: List[str], blobs: List[str]) -> List[Tuple[str, str, dict]]:
    """Return (type, name, parameters) of every layer. Raises `ValueError`."""
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f"its first line is not {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(re.fullmatch(r"\d{1,5}", each) and 0 < int(each) <= MOST for each in counts):
        raise ValueError("its second line is not the numbers of layers and blobs")
    rows = [line.split() for line in lines[2:] if line.strip()]
    if len(rows) != int(counts[0]):
        raise ValueError(f"{len(rows)} layers; the header says {counts[0]}")
    channels: Dict[str, int] = {}  # of every blob that was produced; 0 if unknown
    used, layers = set(), []
    for row in rows:
        if len(row) < 4 or row[0] not in LAYERS:
            raise ValueError(f"the layer {' '.join(row[:2])!r:.80} is not of a known type")
        kind, name = row[:2]
        if not all(re.fullmatch(r"\d{1,4}", each) for each in row[2:4]) or any(len(each) > 255 for each in row):
            raise ValueError(f"{name:.80}: its numbers of inputs and outputs are not numbers")
        inputs, outputs = int(row[2]), int(row[3])
        bottoms, tops, parameters = row[4 : 4 + inputs], row[4 + inputs : 4 + inputs + outputs], row[4:]
        for count, fixed in ((inputs, LAYERS[kind][0]), (outputs, LAYERS[kind][1])):
            if count != fixed and not (fixed is None and count):
                raise ValueError(f"{name} ({kind}): {inputs} inputs and {outputs} outputs")
        for blob in bottoms:
            if blob not in channels or blob in used:
                raise ValueError(f"{name}: the blob {blob} is not an output of an earlier layer, or is used twice")
            used.add(blob)
        if len(tops) != outputs or len(set(tops)) != outputs or set(tops) & set(channels):
            raise ValueError(f"{name}: its outputs are missing, or occur twice")
        found = _read_parameters(name, kind, parameters[inputs + outputs :])
        if kind == "BinaryOp" and (inputs > 2 or (inputs == 1) != (found.get(1) == 1)):
            raise ValueError(f"{name}: a BinaryOp has two inputs, or one and a number")
        out = _count_channels(name, kind, found, [channels[blob] for blob in bottoms])
        channels.update({blob: out for blob in tops})
        layers.append((kind, name, found))
    if len(channels) != int(counts[1]):
        raise ValueError(f"{len(channels)} blobs; the header says {counts[1]}")
    missing = [blob for blob in blobs if blob not in channels]
    if missing:
        raise ValueError(f"it has no blob {missing[0]!r:.80}, which card.json names")
    return layers


def _read_parameters(name: str, kind: str, words: List[str]) -> dict:
    """Return {number: value, or list of values}. Raises `ValueError`."""
    found: dict = {}
    for word in words:
        key, _, text = word.partition("=")
        if not re.fullmatch(r"-?\d{1,5}", key):
            raise ValueError(f"{name}: {word[:40]!r} is not a parameter")
        is_array = int(key) <= -ARRAY
        number = -int(key) - ARRAY if is_array else int(key)
        values = text.split(",")
        if not 0 <= number < MOST_PARAMETERS or number in found:
            raise ValueError(f"{name}: parameter {key} does not exist, or occurs twice")
        if not all(NUMBER.fullmatch(each) for each in values):
            raise ValueError(f"{name}: parameter {key} is not a number")
        if is_array and not (len(values) <= LONGEST_ARRAY and values[0] == str(len(values) - 1)):
            raise ValueError(f"{name}: parameter {key} does not have as many values as declared")
        if not is_array and len(values) != 1:
            raise ValueError(f"{name}: parameter {key} is not one number")
        numbers = [float(each) if re.search("[.eE]", each) else int(each) for each in values[is_array:]]
        # -233 means "all the rest" in ncnn; Clip may have +-FLT_MAX.
        if any(abs(each) > LARGEST for each in numbers if isinstance(each, int)):
            raise ValueError(f"{name}: parameter {key} is over {LARGEST:,}")
        found[number] = numbers if is_array else numbers[0]
    for number, value in found.items():
        if isinstance(value, list) != (number in ARRAYS.get(kind, ())):
            raise ValueError(f"{name}: parameter {number} must {'not ' if isinstance(value, list) else ''}be an array")
        if isinstance(value, float) and number not in FRACTIONS.get(kind, ()):
            raise ValueError(f"{name}: parameter {number} must be a whole number")
    if kind == "Interp" and any(abs(found.get(number, 0)) > MOST_SIDE for number in (1, 2, 3, 4)):
        raise ValueError(f"{name}: it enlarges to over {MOST_SIDE} pixels")
    for number in POSITIVE.get(kind, ()):
        if not (isinstance(found.get(number, 1), int) and found.get(number, 1) > 0):
            raise ValueError(f"{name}: parameter {number} must be at least 1")
    return found


def _count_channels(name: str, kind: str, found: dict, inputs: List[int]) -> int:
    """Return the channels of a layer's output, 0 where they are not followed.

    Raises `ValueError` if a convolution's weights are not for the channels of its input: ncnn would read on behind
    them.
    """
    given = inputs[0] if inputs else 0
    if kind == "Input":
        return 3  # the image; a constant has one axis, and none of the layers below follows it
    if kind in CONVOLUTIONS:
        out, kernel = found.get(0, 0), found.get(1, 1) * found.get(11, found.get(1, 1))
        group = found.get(7, 1) if kind.endswith("DepthWise") else 1
        if found.get(19):
            raise ValueError(f"{name}: dynamic weights are not read")
        size = found.get(6, 0)
        if out < 1 or size <= 0 or out % group or size % (out * kernel):
            raise ValueError(f"{name}: {size} weights for {out} channels")
        taken = size // (out * kernel) * group
        if given and given != taken:
            raise ValueError(f"{name}: it takes {taken} channels, and its input has {given}")
        return out
    if kind == "PReLU" and given and found.get(0, 0) not in (1, given):
        raise ValueError(f"{name}: {found.get(0, 0)} slopes for {given} channels")
    if kind == "BatchNorm" and given and found.get(0, 0) != given:
        raise ValueError(f"{name}: {found.get(0, 0)} statistics for {given} channels")
    if kind in ("ReLU", "PReLU", "BatchNorm", "Sigmoid", "Split", "Clip", "Dropout", "HardSwish", "Swish", "Pooling"):
        return given if kind != "Pooling" or not found.get(4) else 0
    if kind == "BinaryOp" and len(inputs) == 1:
        return given
    return 0


def _check_weights(file: Path, layers: List[Tuple[str, str, dict]]) -> None:
    """Raise `ValueError` if the file is shorter or longer than the weights of the layers."""
    total = file.stat().st_size
    with file.open("rb") as opened:
        for kind, name, found in layers:
            for count, has_tag in _list_weights(kind, name, found):
                tag = int.from_bytes(opened.read(4), "little") if has_tag else 0
                if tag not in (0, FP16):
                    raise ValueError(f"{name}: weights of an unknown kind")
                size = 4 * count if tag == 0 else (2 * count + 3) // 4 * 4
                if size > total - opened.tell():
                    raise ValueError(f"{name}: the file ends before its weights do")
                opened.seek(size, 1)
        if opened.tell() != total:
            raise ValueError(f"{total - opened.tell()} bytes too many")


def _list_weights(kind: str, name: str, found: dict) -> List[Tuple[int, bool]]:
    """Return (count of numbers, whether a tag comes first) of each array of weights that ncnn reads for a layer.

    In the order of `load_model` of each layer in ncnn's src/layer. Raises `ValueError` if a size is not a count.
    """

    def count(number: int, default: int = 0, least: int = 1) -> int:
        value = found.get(number, default)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: parameter {number} is {value}, not a count")
        return value

    if kind in (*CONVOLUTIONS, "InnerProduct", "Gemm", "MultiHeadAttention", "Embed") and (
        found.get(18 if kind in ("Gemm", "MultiHeadAttention", "Embed") else 8)
    ):
        raise ValueError(f"{name}: int8 weights are not read")
    if kind in CONVOLUTIONS:
        return [(count(6), True)] + [(count(0), False)] * bool(found.get(5))
    if kind == "InnerProduct":
        if count(2) % count(0):
            raise ValueError(f"{name}: {found[2]} weights for {found[0]} numbers")
        return [(count(2), True)] + [(count(0), False)] * bool(found.get(1))
    if kind == "Embed":
        if count(3) % count(0):
            raise ValueError(f"{name}: {found[3]} weights for {found[0]} numbers")
        return [(count(3), True)] + [(count(0), False)] * bool(found.get(2))
    if kind == "MemoryData":
        sides = [count(number, least=0) for number in (0, 1, 11, 2)]
        return [(math.prod(side or 1 for side in sides), not found.get(21, 1))]
    if kind in ("PReLU", "BatchNorm"):
        return [(count(0), False)] * (4 if kind == "BatchNorm" else 1)
    if kind == "Scale":
        return [(count(0), False)] * (2 if found.get(1) else 1)
    if kind == "Normalize":
        return [(count(3), False)]
    if kind in ("LayerNorm", "InstanceNorm"):
        return [(count(0), False)] * (2 if found.get(2, 1) else 0)
    if kind == "GroupNorm":
        return [(count(1), False)] * (2 if found.get(3, 1) else 0)
    if kind == "Gemm":
        rows, columns, depth = (count(number, least=0) for number in (7, 8, 9))
        arrays = [rows * depth] * bool(found.get(4)) + [columns * depth] * bool(found.get(5))
        if found.get(6) and (spread := count(10, -1, least=-1)) >= 0:
            arrays.append([1, rows, rows, rows * columns, columns][min(spread, 4)])
        if 0 in arrays:
            raise ValueError(f"{name}: a matrix without numbers")
        return [(size, True) for size in arrays]
    if kind == "MultiHeadAttention":
        width, size = count(0), count(2)
        if size % width or width % count(1, 1):
            raise ValueError(f"{name}: {size} weights for {width} numbers")
        key, value = (width * count(number, width) for number in (3, 4))
        arrays = ((size, width), (key, width), (value, width), (size, size // width))
        return [one for weights, biases in arrays for one in ((weights, True), (biases, False))]
    return []

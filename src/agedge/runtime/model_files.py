"""Read and write MXNet's two files, NAME-symbol.json and NAME-0000.params, and describe those without a card."""

import errno
import json
import math
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.runtime.card import AnyCard, Card, load_card
from agedge.runtime.checks.params import check_params
from agedge.runtime.checks.symbol import load_symbol
from agedge.runtime.half_precision import round_to_half
from agedge.runtime.outputs import AGE_AND_GENDER, can_decode, outputs_of_form, recognise_outputs
from agedge.safe_write import rename_synced, temporary_folder

INPUT = "data"
# Operators whose second input is a label, which prediction does not need, and operators whose output is a loss.
LABELLED = {"LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput"}
LABELLED |= {"Softmax", "SoftmaxOutput"}
LOSSES = {"MakeLoss", "make_loss", "softmax_cross_entropy"}
RESHAPES = ("Reshape", "reshape", "reshape_like")
STAGE = re.compile(r"stage_num\d+")
MAX_VALUES = 1 << 24  # of the output of one node: 64 MB. For scale: the largest of VGG at 224 pixels has 3.2 million
SIZES = (
    112,
    64,
    224,
    128,
    96,
)  # input sides that are tried for a model without a card, the most usual first


class Checkpoint(NamedTuple):
    """A symbol and its weights, NDArrays on the CPU by name."""

    symbol: Any
    args: Dict[str, Any]
    aux: Dict[str, Any]


def find_model(model: Union[str, Path], form: str = "") -> Card:
    """Return the card of a model folder, of a run, or of "PREFIX,EPOCH", for which one is generated if necessary.

    Outputs that are not recognised are of the kind "unknown": such a network can be slimmed and exported, but predicts
    nothing. `form`: the form of the single output of a bare checkpoint, one of `outputs.FORMS`. Raises `UsageError`
    if a form is given for a model that has a card.
    """
    bare = re.fullmatch(r"(.+),\s*(\d+)", str(model))
    if bare and not Path(model).is_dir():
        return describe_checkpoint(Path(bare[1]), int(bare[2]), form)
    if form:
        raise UsageError(f"{model}: its card has the kinds of its outputs; --decode is for PREFIX,EPOCH")
    return load_card(model)


def describe_checkpoint(prefix: Path, epoch: int, form: str = "") -> Card:
    """Return the card of a bare MXNet checkpoint. Raises `AgedgeError` if its files are missing or damaged."""
    names = {"symbol": f"{prefix.name}-symbol.json", "params": f"{prefix.name}-{epoch:04d}.params"}
    folder = prefix.parent
    if (folder / "card.json").is_file():
        card = load_card(folder)
        if card.files.get("mxnet") == names and not form:
            return card
    symbol_file = folder / names["symbol"]
    checkpoint = read_checkpoint(symbol_file, folder / names["params"])
    stages = find_stages(checkpoint)
    size, widths = infer_sizes(checkpoint, symbol_file, stages)
    if form:
        outputs = outputs_of_form(widths, form, symbol_file)
    else:
        outputs = recognise_outputs(widths, guess_form(checkpoint.symbol))
    return Card(
        name=prefix.name,
        network={},
        input={
            "name": INPUT,
            "size": size,
            "channels": "RGB",
            "range": [0, 255],
            **({"constants": stages} if stages else {}),
        },
        outputs=outputs,
        # Earlier MXNet trainers align faces to the template of face recognition.
        crop=Crop.named("arcface", size) if can_decode(outputs) and outputs != AGE_AND_GENDER else None,
        files={"mxnet": names},
        folder=folder,
    )


def find_stages(checkpoint: Checkpoint) -> Dict[str, List[List[int]]]:
    """Return {name: [[0, 1, 2, ..]]} of the inputs `stage_num0`, ..., with which older tools replace SSR-Net's aranges.

    ncnn has no arange. The length of each is that of the operand to which it is added.
    """
    symbol = checkpoint.symbol
    names = [name for name in symbol.list_arguments() if STAGE.fullmatch(name) and name not in checkpoint.args]
    if not names:
        return {}
    nodes, internals = json.loads(symbol.tojson())["nodes"], symbol.get_internals()
    known = {name: value.shape for name, value in checkpoint.args.items()}
    stages = {}
    for name in names:
        width = 3  # the published networks count to three
        for node in nodes:
            sources = [nodes[index]["name"] for index, *_ in node["inputs"]]
            if name in sources and len(sources) == 2:
                other = internals[sources[1 - sources.index(name)] + "_output"]
                given = {key: shape for key, shape in known.items() if key in other.list_arguments()}
                _, shapes, _ = other.infer_shape_partial(**given)
                width = shapes[0][1] if len(shapes[0]) == 2 and shapes[0][1] > 0 else width
        stages[name] = [list(range(width))]
    return stages


def guess_form(symbol: Any) -> str:
    """Return the form, one of `outputs.FORMS`, of a single output as guessed from the graph; "" if it is unknown.

    It follows from the name of the label of its training, or else from SSR-Net's last factor: 101 for years, 1 for a
    gender score.
    """
    labels = " ".join(name for name in symbol.list_arguments() if "label" in name)
    for form in ("gender", "age"):
        if form in labels:
            return form
    graph = json.loads(symbol.tojson())
    last = graph["nodes"][graph["heads"][0][0]]
    while last["op"] == "_copy":  # by which `deploy slim` keeps the name of an output
        last = graph["nodes"][last["inputs"][0][0]]
    if last["op"] == "_mul_scalar":
        return {101.0: "age", 1.0: "gender"}.get(float(last["attrs"]["scalar"]), "")
    return ""


def infer_sizes(
    checkpoint: Checkpoint, file: Union[str, Path], constants: Dict[str, Any]
) -> Tuple[int, Dict[str, int]]:
    """Return (side of the input in pixels, {output: values per face}); the side is the first of `SIZES` that fits."""
    for size in SIZES:
        if not find_misfit(checkpoint, size):
            known = {
                name: checkpoint.args[name].shape
                for name in checkpoint.symbol.list_arguments()
                if name in checkpoint.args
            }
            known.update({name: np.shape(value) for name, value in constants.items()})
            _, outs, _ = checkpoint.symbol.infer_shape(**known, **{INPUT: (1, 3, size, size)})
            names = [output_name(name) for name in checkpoint.symbol.list_outputs()]
            return size, {name: int(np.prod(shape[1:])) for name, shape in zip(names, outs)}
    raise AgedgeError(f"{file}: weights and symbol fit no input of {', '.join(map(str, SIZES))} pixels")


def find_misfit(checkpoint: Checkpoint, size: int) -> str:
    """Return the first fault of a checkpoint at an input size, as text, or "".

    A fault is a weight of another shape than the symbol needs, or an output that is too large.
    """
    from mxnet.base import MXNetError

    symbol = checkpoint.symbol
    given = {**checkpoint.args, **checkpoint.aux}
    try:
        shapes, _, aux_shapes = symbol.infer_shape_partial(**{INPUT: (1, 3, size, size)})
    except MXNetError:
        return f"the symbol takes no input of {size} pixels"
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    for name, shape in zip(names, shapes + aux_shapes):
        if name in given and shape and 0 not in shape and given[name].shape != shape:
            return f"{name} is {given[name].shape}, the symbol needs {shape}"
    known = {**shapes_of(checkpoint.args), INPUT: (1, 3, size, size)}
    return find_unsafe(symbol, MAX_VALUES, **known)


def output_name(name: str) -> str:
    """Return the name of an output without MXNet's suffix: `age` for `age_output`."""
    return name[: -len("_output")] if name.endswith("_output") else name


def read_checkpoint(symbol_file: Path, params_file: Path, inputs: Iterable[str] = ()) -> Checkpoint:
    """Read both files; `inputs`: names of inputs besides `data`.

    Weights that the symbol does not use are left out, the others are float32. Names may lack "arg:" and "aux:" or
    have the wrong one, and a statistic may be called moving_ or running_ in either file, since trainers differ. Raises
    `AgedgeError` if a file is missing or damaged, or if the two files belong to different networks.
    """
    symbol = load_symbol(symbol_file)
    unsafe = find_unsafe(symbol)
    if unsafe:
        raise AgedgeError(f"{symbol_file}: {unsafe}")
    params = load_params(params_file)
    arguments, statistics = symbol.list_arguments(), symbol.list_auxiliary_states()
    if INPUT not in arguments:
        raise AgedgeError(f"{symbol_file}: it has no input '{INPUT}'")
    arguments.remove(INPUT)
    params = {re.sub("^(arg|aux):", "", name): value.astype("float32", copy=False) for name, value in params.items()}
    inputs = tuple(inputs)
    args, aux = find_weights(params, arguments), find_weights(params, statistics)
    labels = {name for name in arguments if "label" in name} - find_used(symbol)
    needed = [name for name in arguments if name not in (*args, *inputs, *labels)]
    needed = [name for name in needed if not STAGE.fullmatch(name)]
    needed += [name for name in statistics if name not in aux]
    if needed:
        raise AgedgeError(
            f"{params_file}: {len(needed)} weights of {symbol_file.name} are missing, such as {needed[0]}"
        )
    return Checkpoint(symbol, args, aux)


def load_params(file: Path) -> Dict[str, Any]:
    """Return the NDArrays of a parameter file by name, once it has passed `check_params`.

    Raises `AgedgeError` if the file is missing, damaged or has arrays without names.
    """
    import mxnet as mx

    check_params(file)
    try:
        params = mx.nd.load(str(file)) or {}  # MXNet returns an empty list for an empty file
    except (mx.MXNetError, UnicodeDecodeError) as error:
        raise AgedgeError(f"{file}: not an MXNet parameter file, or damaged") from error
    if not isinstance(params, dict):
        raise AgedgeError(f"{file}: weights without names")
    return params


def find_unsafe(symbol: Any, most: float = MAX_VALUES, **known: Tuple[int, ...]) -> str:
    """Return a description of the first node that is unsafe to run in MXNet, or "".

    Such a node has over `most` values, or reshapes to another number of values: MXNet would write outside of the
    allocated memory. `known`: shapes of inputs. `find_misfit` finds shapes that do not fit.
    """
    from mxnet.base import MXNetError

    internals = symbol.get_internals()
    try:
        _, shapes, _ = internals.infer_shape_partial(**known)
    except MXNetError:
        return ""
    sizes: Dict[str, Optional[int]] = {}
    found: Iterable[Tuple[int, ...]] = shapes or ()
    for name, shape in zip(internals.list_outputs(), found):
        # A side that is not known is 0, or -1.
        sizes[name] = math.prod(shape) if shape and min(shape) > 0 else None
        if math.prod(max(abs(side), 1) for side in shape) > most:
            return f"{output_name(name)} would be {'x'.join(map(str, shape))}, over {most:,} values"
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] in RESHAPES:
            source, index = node["inputs"][0][:2]
            name = nodes[source]["name"]
            names = [name] if nodes[source]["op"] == "null" else [f"{name}_output", f"{name}_output{index}"]
            given = next((sizes[each] for each in names if each in sizes), None)
            reshaped = sizes.get(f"{node['name']}_output")
            if given is not None and reshaped is not None and given != reshaped:
                return f"{node['name']} reshapes {given} values to {reshaped}"
    return ""


def find_used(symbol: Any) -> Set[str]:
    """Return the names of the inputs on which the predictions depend, without labels that only a loss takes."""
    graph = json.loads(symbol.tojson())
    nodes = graph["nodes"]
    left = [index for index, *_ in graph["heads"] if nodes[index]["op"] not in LOSSES]
    seen = set()
    while left:
        index = left.pop()
        if index not in seen:
            seen.add(index)
            node = nodes[index]
            left += [source for source, *_ in node["inputs"][: 1 if node["op"] in LABELLED else None]]
    return {nodes[index]["name"] for index in seen if nodes[index]["op"] == "null"}


def shapes_of(arrays: Dict[str, Any]) -> Dict[str, Tuple[int, ...]]:
    """Return the shape of each array by its name."""
    return {name: array.shape for name, array in arrays.items()}


def find_weights(params: Dict[str, Any], names: List[str]) -> Dict[str, Any]:
    """Return the weights with the given names; moving_ and running_ in a name are equivalent."""
    found = {}
    for name in names:
        for known_as in (name, name.replace("moving_", "running_"), name.replace("running_", "moving_")):
            if known_as in params:
                found.setdefault(name, params[known_as])
    return found


def save_model(slim_block: Any, card: AnyCard, folder: Union[str, Path], halve: bool = True) -> AnyCard:
    """Write a slim network (a Gluon HybridBlock with the outputs of the card) and its card into `folder`.

    Writes NAME-symbol.json, NAME-0000.params and card.json, with NAME from the card, each whole or not at all; the same
    weights give the same bytes. With `halve`, weights are rounded to numbers that half precision can hold (see
    `agedge.runtime.half_precision`). Returns the card with `files` and `sha256`.
    """
    import mxnet as mx

    with mx.name.NameManager():  # numbers the operations from 0, whatever else was built in this process
        outputs = slim_block(mx.sym.var(INPUT))
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    # On several GPUs the statistics of BatchNorm differ a little: the mean over the devices is written.
    params = {name: mean_of_devices(value.list_data()) for name, value in slim_block.collect_params().items()}
    args = {name: params[name] for name in symbol.list_arguments() if name != INPUT}
    aux = {name: params[name] for name in symbol.list_auxiliary_states()}
    args = round_to_half(symbol, args, aux) if halve else args
    return save_checkpoint(Checkpoint(symbol, args, aux), card, folder)


def mean_of_devices(copies: List[Any]) -> Any:
    """Return the mean of a parameter's copies on the devices as an array on the CPU."""
    import mxnet as mx

    on_cpu = [copy.as_in_context(mx.cpu()) for copy in copies]
    return on_cpu[0] if len(on_cpu) == 1 else sum(on_cpu[1:], on_cpu[0]) / len(on_cpu)


def save_checkpoint(checkpoint: Checkpoint, card: AnyCard, folder: Union[str, Path]) -> AnyCard:
    """Write a symbol with its weights and card as `save_model` does.

    Raises `AgedgeError` if the outputs are not those of the card, `OSError` if the files cannot be written.
    """
    import mxnet as mx
    from mxnet.base import MXNetError

    names = [output_name(name) for name in checkpoint.symbol.list_outputs()]
    if names != list(card.outputs):
        raise AgedgeError(
            f"{folder}: the network's outputs are {', '.join(names)}, the card's {', '.join(card.outputs)}"
        )
    folder = Path(folder)
    card.files, card.blobs = {"mxnet": {"symbol": f"{card.name}-symbol.json", "params": f"{card.name}-0000.params"}}, {}
    require_plain_names(card, folder)
    weights = {f"arg:{name}": value for name, value in sorted(checkpoint.args.items())}
    weights.update({f"aux:{name}": value for name, value in sorted(checkpoint.aux.items())})
    with temporary_folder(folder) as stage:
        Path(stage, card.files["mxnet"]["symbol"]).write_text(plain_json(checkpoint.symbol), encoding="utf-8")
        try:
            mx.nd.save(str(Path(stage, card.files["mxnet"]["params"])), weights)
        except MXNetError:  # it gives no reason
            raise OSError(errno.EIO, "cannot be written (no space left?)", str(folder)) from None
        card.save(stage)
        move_model(card, folder)
    return card


def move_model(card: Card, folder: Path) -> None:
    """Move the files of a model from the folder of its card into `folder`, on the same disk, its card last.

    Raises `AgedgeError` if a name of the card is not a plain file name.
    """
    require_plain_names(card, folder)
    for name in [*card.sha256, "card.json"]:
        rename_synced(card.find_file(name), folder / name)
    card.folder = folder


def require_plain_names(card: Card, folder: Path) -> None:
    """Raise `AgedgeError` if the card's name or a file's may lead out of the folder."""
    try:
        card.check_names()
    except ValueError as error:
        raise AgedgeError(f"{folder}: nothing is written: {error}") from None


def plain_json(symbol: Any) -> str:
    """Return the symbol as JSON without traces of training.

    These are Gluon's hints (`__init__`, `__lr_mult__`, ...), and the count of traced statistics (the third number of an
    input).
    """
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        attrs = {key: value for key, value in node.get("attrs", {}).items() if not key.startswith("__")}
        node.pop("attrs", None)
        node["inputs"] = [[source, index, 0] for source, index, _ in node["inputs"]]
        if attrs:
            node["attrs"] = attrs
    return json.dumps(graph, indent=1) + "\n"

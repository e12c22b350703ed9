"""MXNet's two files, NAME-symbol.json and NAME-0000.params: read, recognised where no card tells, and written."""

import errno
import json
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.runtime.card import Card, load_card
from agedge.runtime.checks.params import check_params
from agedge.runtime.checks.symbol import load_symbol
from agedge.runtime.half_precision import round_to_half
from agedge.runtime.outputs import OURS, is_known, name_outputs, recognise_outputs
from agedge.safe_write import rename_synced, temporary_folder

INPUT = "data"
# Operators whose second input is a label, without which they answer all the same; and those that answer with a loss.
LABELLED = {"LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput"}
LABELLED |= {"Softmax", "SoftmaxOutput"}
LOSSES = {"MakeLoss", "make_loss", "softmax_cross_entropy"}
RESHAPES = ("Reshape", "reshape", "reshape_like")
STAGE = re.compile(r"stage_num\d+")
MOST_NUMBERS = 1 << 24  # of one node's answer: 64 MB. VGG's largest at 224 pixels is 3.2 million
SIZES = (112, 64, 224, 128, 96)  # where no card gives the input's side: those of the known networks, usual ones first


class Checkpoint(NamedTuple):
    """A symbol and its weights, NDArrays on the CPU by name."""

    symbol: object
    args: dict
    aux: dict


def find_model(model, form: str = "") -> Card:
    """The card of a model folder, of a run, or of "PREFIX,EPOCH": the one beside it, or one made of what is seen.

    Outputs that nobody knows are "unknown" in it: such a network can be slimmed and exported, not asked for ages.
    `form`, one of `outputs.FORMS`, says what the one output of a bare checkpoint is. Raises `UsageError` where a form
    is given for a model that has a card.
    """
    bare = re.fullmatch(r"(.+),\s*(\d+)", str(model))
    if bare and not Path(model).is_dir():
        return describe_checkpoint(Path(bare[1]), int(bare[2]), form)
    if form:
        raise UsageError(f"{model}: its card says how to decode it; --decode is for PREFIX,EPOCH")
    return load_card(model)


def describe_checkpoint(prefix: Path, epoch: int, form: str = "") -> Card:
    """The card of a bare MXNet checkpoint. Raises `AgedgeError` where its files are missing or damaged."""
    names = {"symbol": f"{prefix.name}-symbol.json", "params": f"{prefix.name}-{epoch:04d}.params"}
    folder = prefix.parent
    if (folder / "card.json").is_file():
        card = load_card(folder)
        if card.files.get("mxnet") == names and not form:
            return card
    symbol_file = folder / names["symbol"]
    checkpoint = read_checkpoint(symbol_file, folder / names["params"])
    stages = find_stages(checkpoint)
    size, widths = measure(checkpoint, symbol_file, stages)
    if form:
        outputs = name_outputs(widths, form, symbol_file)
    else:
        outputs = recognise_outputs(widths, guess_form(checkpoint.symbol))
    known = all(is_known(name, what) for name, what in outputs.items())
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
        # Earlier MXNet trainers align faces to the template of face recognition; their models are best on it.
        crop=Crop.named("arcface", size) if known and outputs != OURS else None,
        files={"mxnet": names},
        folder=folder,
    )


def find_stages(checkpoint: Checkpoint) -> dict:
    """{name: [[0, 1, 2, ..]]} of the inputs `stage_num0`, ... by which older tools take the stages' aranges out of
    SSR-Net, so that ncnn need not know arange. What each is added to tells how many numbers it has."""
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


def guess_form(symbol) -> str:
    """What a single number is, as far as the graph tells: by the name of the label that it was trained with, else by
    the factor that SSR-Net ends with, 101 for years and 1 for a gender score; "" where nothing tells."""
    labels = " ".join(name for name in symbol.list_arguments() if "label" in name)
    for form in ("gender", "age"):
        if form in labels:
            return form
    graph = json.loads(symbol.tojson())
    last = graph["nodes"][graph["heads"][0][0]]
    while last["op"] == "_copy":  # the name of the output, as `deploy slim` keeps it
        last = graph["nodes"][last["inputs"][0][0]]
    if last["op"] == "_mul_scalar":
        return {101.0: "age", 1.0: "gender"}.get(float(last["attrs"]["scalar"]), "")
    return ""


def measure(checkpoint: Checkpoint, file, constants: dict) -> tuple:
    """(side of the input in pixels, {output: numbers a face}), the side being the first of `SIZES` that fits."""
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
    """The first weight of another shape than the symbol wants at this input size, or an answer that is too large, in
    words; "" where all fit."""
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
            return f"{name} is {given[name].shape}, the symbol wants {shape}"
    return find_unsafe(symbol, **shapes_of(checkpoint.args), **{INPUT: (1, 3, size, size)})


def output_name(name: str) -> str:
    """`age_output` -> `age`: MXNet's name of an output without the suffix that it adds to the node's."""
    return name[: -len("_output")] if name.endswith("_output") else name


def read_checkpoint(symbol_file: Path, params_file: Path, inputs=()) -> Checkpoint:
    """Read both files; `inputs`: those that are fed, beside `data`.

    Weights that the symbol does not want are left out, the others are float32. Names may lack "arg:" and "aux:" or
    carry the wrong one, and a statistic may be called moving_ or running_ in either file: trainers differ. Raises
    `AgedgeError` where a file is missing or damaged, or where they are of different networks.
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
    args, aux = find_weights(params, arguments), find_weights(params, statistics)
    labels = {name for name in arguments if "label" in name} - find_used(symbol)
    wanted = [name for name in arguments if name not in (*args, *inputs, *labels)]
    wanted = [name for name in wanted if not STAGE.fullmatch(name)]
    wanted += [name for name in statistics if name not in aux]
    if wanted:
        raise AgedgeError(f"{params_file}: {len(wanted)} weights of {symbol_file.name} are not in it, as {wanted[0]}")
    return Checkpoint(symbol, args, aux)


def load_params(file: Path) -> dict:
    """Return the NDArrays of a parameter file by name, once it has passed `check_params`.

    Raises `AgedgeError` where the file is missing, damaged or has arrays without names.
    """
    import mxnet as mx

    check_params(file)
    try:
        params = mx.nd.load(str(file)) or {}  # no weights at all come as a list
    except (mx.MXNetError, UnicodeDecodeError) as error:
        raise AgedgeError(f"{file}: not an MXNet parameter file, or damaged") from error
    if not isinstance(params, dict):
        raise AgedgeError(f"{file}: weights without names")
    return params


def find_unsafe(symbol, most: float = MOST_NUMBERS, **known) -> str:
    """Return the first node that MXNet should not run, in words; "" where there is none.

    That is one which answers with over `most` numbers, or a reshape to another number of them: MXNet writes
    them all the same, outside of its memory. `known`: shapes of inputs. Shapes that do not fit are for `find_misfit`.
    """
    from mxnet.base import MXNetError

    internals = symbol.get_internals()
    try:
        _, shapes, _ = internals.infer_shape_partial(**known)
    except MXNetError:
        return ""
    sizes = {}
    for name, shape in zip(internals.list_outputs(), shapes or ()):
        # A side that is not known is 0, or -1.
        sizes[name] = math.prod(shape) if shape and min(shape) > 0 else None
        if math.prod(max(abs(side), 1) for side in shape) > most:
            return f"{output_name(name)} would be {'x'.join(map(str, shape))}, over {most:,} numbers"
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] in RESHAPES:
            source, index = node["inputs"][0][:2]
            name = nodes[source]["name"]
            names = [name] if nodes[source]["op"] == "null" else [f"{name}_output", f"{name}_output{index}"]
            given = next((sizes[each] for each in names if each in sizes), None)
            answer = sizes.get(f"{node['name']}_output")
            if given is not None and answer is not None and given != answer:
                return f"{node['name']} makes {answer} numbers of {given}"
    return ""


def find_used(symbol) -> set:
    """Return the names of the inputs on whose values the answers depend: not labels that only a loss takes."""
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


def shapes_of(arrays: dict) -> dict:
    """Return the shape of each array by its name."""
    return {name: array.shape for name, array in arrays.items()}


def find_weights(params: dict, names: list) -> dict:
    """Those of `params` that are called `names`, or that with moving_ and running_ in each other's place."""
    found = {}
    for name in names:
        for known_as in (name, name.replace("moving_", "running_"), name.replace("running_", "moving_")):
            if known_as in params:
                found.setdefault(name, params[known_as])
    return found


def save_model(slim_block, card: Card, folder, halve: bool = True) -> Card:
    """Write a slim network (a Gluon HybridBlock with the outputs of the card) and its card into `folder`.

    NAME-symbol.json, NAME-0000.params and card.json, NAME being the card's; the same weights give the same bytes, and
    nothing half-written is ever seen under these names. With `halve`, weights are rounded to what half precision can
    hold (see `agedge.runtime.half_precision`). Returns the card with `files` and `sha256`.
    """
    import mxnet as mx

    with mx.name.NameManager():  # numbers the operations from 0, whatever else was built in this process
        outputs = slim_block(mx.sym.var(INPUT))
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    # On several GPUs the statistics of BatchNorm differ a little: the mean of the devices is what is shipped.
    params = {name: mean_of_devices(value.list_data()) for name, value in slim_block.collect_params().items()}
    args = {name: params[name] for name in symbol.list_arguments() if name != INPUT}
    aux = {name: params[name] for name in symbol.list_auxiliary_states()}
    args = round_to_half(symbol, args, aux) if halve else args
    return save_checkpoint(Checkpoint(symbol, args, aux), card, folder)


def mean_of_devices(copies: list):
    """One CPU array from a parameter's copies on the devices."""
    import mxnet as mx

    on_cpu = [copy.as_in_context(mx.cpu()) for copy in copies]
    return on_cpu[0] if len(on_cpu) == 1 else sum(on_cpu[1:], on_cpu[0]) / len(on_cpu)


def save_checkpoint(checkpoint: Checkpoint, card: Card, folder) -> Card:
    """Write a symbol with its weights and card as `save_model` does.

    Raises `AgedgeError` where the outputs are not those of the card, `OSError` where the disk does not take it.
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
        except MXNetError:  # it tells no reason; NumPy's files and Python's have theirs
            raise OSError(errno.EIO, "cannot be written (no space left?)", str(folder)) from None
        card.save(stage)
        move_model(card, folder)
    return card


def move_model(card: Card, folder: Path) -> None:
    """Rename the files of a model that was written beside them into `folder`, its card last.

    Raises `AgedgeError` where a name of the card is not a plain file name.
    """
    require_plain_names(card, folder)
    for name in [*card.sha256, "card.json"]:
        rename_synced(card.folder / name, folder / name)
    card.folder = folder


def require_plain_names(card: Card, folder: Path) -> None:
    """Raise `AgedgeError` where the card's name or a file's would lead out of the folder that is written."""
    try:
        card.check_names()
    except ValueError as error:
        raise AgedgeError(f"{folder}: nothing is written: {error}") from None


def plain_json(symbol) -> str:
    """The symbol as JSON, without what it remembers of training: Gluon's hints (`__init__`, `__lr_mult__`, ...), and
    how often a statistic was traced (the third number of an input)."""
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        attrs = {key: value for key, value in node.get("attrs", {}).items() if not key.startswith("__")}
        node.pop("attrs", None)
        node["inputs"] = [[source, index, 0] for source, index, _ in node["inputs"]]
        if attrs:
            node["attrs"] = attrs
    return json.dumps(graph, indent=1) + "\n"

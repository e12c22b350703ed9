"""A slim MXNet model -> ONNX: opset 13, a batch of any size, input `data`, the outputs under the names in the card.

A detector's images are of any height and width, too.
"""

from pathlib import Path

from agedge.errors import AgedgeError
from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.model_files import INPUT, Checkpoint, output_name, read_checkpoint
from agedge.safe_write import temporary_folder, write_bytes
from deploy import onnx_fixes as mends
from deploy.graph import infer_shapes, read_graph, write_graph

SIDE = 320  # of the image that stands for those of any size


def write_onnx(card: Card, file: Path) -> None:
    """Write the model of `card` (its folder holds the slim MXNet files) as the ONNX `file`.

    Raises `AgedgeError` where an operation has no translation or the result is not valid ONNX. That the numbers are
    the same is for `deploy.export` to prove.
    """
    import onnx
    import onnxslim

    constants = fixed_inputs(card)
    symbol_file = card.path("mxnet", "symbol")
    checkpoint = read_checkpoint(symbol_file, card.path("mxnet", "params"), inputs=constants)
    size = card.input.get("size")
    inputs = {INPUT: (1, 3, size or SIDE, size or SIDE), **{name: value.shape for name, value in constants.items()}}
    model = translate(checkpoint, inputs, card.name, any_side=size is None)
    try:
        model = onnxslim.slim(model)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # both packages raise whatever comes
        raise AgedgeError(f"{card.name}: not valid as ONNX: {error}") from error
    write_bytes(file, model.SerializeToString(deterministic=True))


def translate(checkpoint: Checkpoint, inputs: dict, name: str, any_side: bool = False):
    """MXNet's exporter, mended: the ONNX model of a checkpoint for inputs {name: shape}, `data` being of any batch and,
    with `any_side`, of any height and width.

    `name`: what errors call the model.
    """
    import mxnet as mx
    import mxnet.onnx
    import onnx

    names = [output_name(each) for each in checkpoint.symbol.list_outputs()]
    heads = read_graph(checkpoint.symbol)
    known = {**{name: value.shape for name, value in checkpoint.args.items()}, **inputs}
    shapes = infer_shapes(checkpoint.symbol, known)
    dims = {name: free(name, shapes[node.name][index], any_side) for name, (node, index) in zip(names, heads)}

    args = mends.write_fixed_gammas(heads, checkpoint.args)
    heads, args = mends.write_zero_biases(heads, args)
    heads = mends.slice_instead_of_split(heads, shapes)
    heads = mends.spell_out_flatten(heads, infer_shapes(write_graph(heads), known))
    heads = mends.compare_without_comparison(heads)
    mends.rename_operations(heads)
    outputs = {node.name: name for (node, _), name in zip(heads, names)}
    symbol = write_graph(heads)
    ranks = {name: len(found[0]) for name, found in infer_shapes(symbol, known).items()}

    fed = [name for name in symbol.list_inputs() if name in inputs]
    free_inputs = [free(name, inputs[name], any_side) if name == INPUT else inputs[name] for name in fed]
    with temporary_folder() as scratch, mends.as_the_exporter_knew_it():
        raw = str(Path(scratch, "raw.onnx"))
        try:
            mx.onnx.export_model(
                symbol,
                [args, checkpoint.aux],
                in_shapes=[inputs[name] for name in fed],
                onnx_file_path=raw,
                dynamic=True,
                dynamic_input_shapes=free_inputs,
            )
        except Exception as error:  # each translation has its own way of giving up
            raise AgedgeError(f"{name}: no way to ONNX: {error}") from error
        model = onnx.load(raw)
    mends.shape_prelu_slopes(model, ranks)
    mends.strip_weights_from_inputs(model, list(inputs))
    mends.require_output_nodes(model, outputs)
    mends.name_outputs(model, outputs, dims)
    return model


def free(name: str, shape: tuple, any_side: bool) -> tuple:
    """The shape of an input or output, with words for what may be of any size."""
    return ("batch", shape[1], f"{name}_height", f"{name}_width") if any_side else ("batch", *shape[1:])

"""Convert a slim MXNet model to ONNX: opset 13, any batch size, input `data`, and the outputs named as in the card.

A detector takes images of any height and width, too.
"""

from pathlib import Path
from typing import Dict, Tuple, Union

from agedge.errors import AgedgeError
from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.model_files import INPUT, Checkpoint, output_name
from agedge.safe_write import temporary_folder, write_bytes
from deploy.formats import onnx_fixes
from deploy.graph import infer_shapes, read_graph, write_graph

SIDE = 320  # pixels, of the image with which a network for any size is traced
Shape = Tuple[int, ...]


def write_onnx(card: Card, checkpoint: Checkpoint, file: Path) -> None:
    """Write a slim checkpoint with its card as the ONNX `file`.

    Raises `AgedgeError` if an operation has no translation or the result is not valid ONNX. `deploy.export` compares
    the outputs.
    """
    import onnx
    import onnxslim

    constants = fixed_inputs(card)
    size = card.input.get("size")
    inputs = {INPUT: (1, 3, size or SIDE, size or SIDE), **{name: value.shape for name, value in constants.items()}}
    model = translate(checkpoint, inputs, card.name, any_side=size is None)
    try:
        model = onnxslim.slim(model)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # both packages raise exceptions of many types
        raise AgedgeError(f"{card.name}: not valid as ONNX: {error}") from error
    write_bytes(file, model.SerializeToString(deterministic=True))


def translate(checkpoint: Checkpoint, inputs: Dict[str, Shape], name: str, any_side: bool = False):
    """Return the ONNX model that MXNet's exporter, with our fixes, makes of a checkpoint for inputs {name: shape}.

    `data` has any batch size and, with `any_side`, any height and width. `name`: of the model in errors.
    """
    import mxnet as mx
    import mxnet.onnx
    import onnx

    names = [output_name(each) for each in checkpoint.symbol.list_outputs()]
    heads = read_graph(checkpoint.symbol)
    known = {**{name: value.shape for name, value in checkpoint.args.items()}, **inputs}
    shapes = infer_shapes(checkpoint.symbol, known)
    dims = {
        name: free_dimensions(name, shapes[node.name][index], any_side) for name, (node, index) in zip(names, heads)
    }

    args = onnx_fixes.write_fixed_gammas(heads, checkpoint.args)
    heads, args = onnx_fixes.write_zero_biases(heads, args)
    heads = onnx_fixes.slice_instead_of_split(heads, shapes)
    heads = onnx_fixes.spell_out_flatten(heads, infer_shapes(write_graph(heads), known))
    heads = onnx_fixes.compare_without_comparison(heads)
    onnx_fixes.rename_operations(heads)
    outputs = {node.name: name for (node, _), name in zip(heads, names)}
    symbol = write_graph(heads)
    ranks = {name: len(found[0]) for name, found in infer_shapes(symbol, known).items()}

    fed = [name for name in symbol.list_inputs() if name in inputs]
    dynamic_inputs = [free_dimensions(name, inputs[name], any_side) if name == INPUT else inputs[name] for name in fed]
    with temporary_folder() as scratch, onnx_fixes.patch_exporter():
        raw = str(Path(scratch, "raw.onnx"))
        try:
            mx.onnx.export_model(
                symbol,
                [args, checkpoint.aux],
                in_shapes=[inputs[name] for name in fed],
                onnx_file_path=raw,
                dynamic=True,
                dynamic_input_shapes=dynamic_inputs,
            )
        except Exception as error:  # each translation raises its own type
            raise AgedgeError(f"{name}: cannot be converted to ONNX: {error}") from error
        model = onnx.load(raw)
    onnx_fixes.shape_prelu_slopes(model, ranks)
    onnx_fixes.strip_weights_from_inputs(model, list(inputs))
    onnx_fixes.require_output_nodes(model, outputs)
    onnx_fixes.name_outputs(model, outputs, dims)
    return model


def free_dimensions(name: str, shape: Shape, any_side: bool) -> Tuple[Union[int, str], ...]:
    """Return the shape of an input or output, with names for the dimensions that may have any size."""
    return ("batch", shape[1], f"{name}_height", f"{name}_width") if any_side else ("batch", *shape[1:])

"""Crops in ncnn's files, of a detector whose images are of any size: a map that is enlarged twofold and added to a
finer one may be a row or a column too large.

pnnx traces a network at one size. It writes that size's crop into the file or, at a size that needs none, no crop. So
the crops are taken out before it, and put in again behind it, as ncnn's layer that cuts to another map's size.
"""

from pathlib import Path


def drop_crops(file: Path) -> None:
    """Take each Slice whose ends are computed from a map's size out of an ONNX file."""
    import onnx

    model = onnx.load(str(file))
    weights = {tensor.name for tensor in model.graph.initializer}
    crops = {
        node.output[0]: node for node in model.graph.node if node.op_type == "Slice" and node.input[2] not in weights
    }
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in crops:
                node.input[index] = crops[name].input[0]
    for node in crops.values():
        model.graph.node.remove(node)
    onnx.save(model, str(file))


def put_crops(param: Path) -> None:
    """Cut what each enlarging layer of a .param file gives to the size of the map that it is added to.

    A line is: type, name, how many inputs and outputs, their names, options. A blob has one consumer in ncnn, so one
    that is also measured is split.
    """
    magic, _, *lines = param.read_text().splitlines()
    layers = [line.split() for line in lines]
    enlarged = {words[5] for words in layers if words[0] == "Interp"}
    written = []
    for words in layers:
        inputs = words[4 : 4 + int(words[2])]
        large = next((name for name in inputs if name in enlarged), None)
        if large:
            fine = next(name for name in inputs if name != large)
            cut, kept, measured = f"{large}_cut", f"{fine}_kept", f"{fine}_measured"
            written.append(["Split", f"split_{cut}", "1", "2", fine, kept, measured])
            written.append(["Crop", f"crop_{cut}", "2", "1", large, measured, cut])
            words = [{large: cut, fine: kept}.get(name, name) for name in words]
        written.append(words)
    blobs = sum(int(words[3]) for words in written)
    param.write_text("\n".join([magic, f"{len(written)} {blobs}", *map(" ".join, written)]) + "\n")

"""Crops in the ncnn files of a detector, whose images are of any size.

A map that is enlarged twofold and added to a finer one may be a row or a column too large. pnnx traces a network at one
size: it writes that size's crop into the file or, at a size that needs none, no crop. So the crops are removed before
pnnx runs, and inserted afterwards, as ncnn's layer that crops to another map's size.
"""

from pathlib import Path


def drop_crops(file: Path) -> None:
    """Remove each Slice whose ends are computed from a map's size from an ONNX file."""
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
    """Crop the output of each enlarging layer of a .param file to the size of the map that it is added to.

    A line is: type, name, numbers of inputs and outputs, their names, options. A blob has one consumer in ncnn, so one
    that also gives its size is split.
    """
    magic, _, *lines = param.read_text().splitlines()
    layers = [line.split() for line in lines]
    enlarged = {fields[5] for fields in layers if fields[0] == "Interp"}
    written = []
    for fields in layers:
        inputs = fields[4 : 4 + int(fields[2])]
        large = next((name for name in inputs if name in enlarged), None)
        if large:
            fine = next(name for name in inputs if name != large)
            cut, kept, measured = f"{large}_cut", f"{fine}_kept", f"{fine}_measured"
            written.append(["Split", f"split_{cut}", "1", "2", fine, kept, measured])
            written.append(["Crop", f"crop_{cut}", "2", "1", large, measured, cut])
            fields = [{large: cut, fine: kept}.get(name, name) for name in fields]
        written.append(fields)
    blobs = sum(int(fields[3]) for fields in written)
    param.write_text("\n".join([magic, f"{len(written)} {blobs}", *map(" ".join, written)]) + "\n")

"""python -m deploy import: convert weights of another system to a model folder, or to a backbone to train from.

The kind of a file is recognised by its first bytes, not by its name. Weights do not contain the crop of the
faces. SSR-Net and AEC get the crop with the best measured metrics (`python -m benchmarks.import_crops`, tables in
docs/networks.md), the others the face recognition template, which MobileNet's trainer uses; --crop and --margin replace
it. Keras weights expect BGR; the importer reorders them for RGB.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError, choices
from agedge.results.kinds import PARAMETERS
from agedge.results.overwrite import Result, check_model_folder, check_results
from agedge.runtime.card import Card, checksum
from agedge.runtime.model_files import move_model
from agedge.safe_write import rename_synced, temporary_folder
from deploy.importers.imported import Imported, require_weights


class Source(NamedTuple):
    """How a network is imported: the function `module.mapper`, and the (template, margin) of its crop.

    `note`: text for the card.
    """

    module: str
    mapper: str
    crop: Tuple[str, float]
    note: str = ""


FACES = "on 1,302 UTKFace faces of ages 21 to 60"  # data/utk/val.rec
# {network: {kind of file: source}}
SOURCES: Dict[str, Dict[str, Source]] = {
    "ssrnet": {
        "mxnet": Source(
            "ssrnet", "from_mxnet", ("arcface", 0.0), f"age MAE 5.64 years with arcface, 6.32 with utkface, {FACES}"
        ),
        "keras": Source(
            "ssrnet",
            "from_keras",
            ("utkface", 0.6),
            "first convolutions turned from BGR to RGB; "
            f"age MAE 6.03 years with utkface, margin 0.6, 8.43 without a margin, {FACES}",
        ),
    },
    "ssrnet_gender": {
        "mxnet": Source(
            "ssrnet", "gender_from_mxnet", ("arcface", 0.0), f"gender 94.8% with arcface, 93.2% with utkface, {FACES}"
        )
    },
    "mobilenet025": {"mxnet": Source("mobilenet", "from_mxnet", ("arcface", 0.0))},
    "aec": {
        "keras": Source(
            "aec",
            "from_keras",
            ("utkface", 0.0),
            f"first convolution turned from BGR to RGB; age MAE 5.58 years with utkface, 6.05 with arcface, {FACES}",
        )
    },
    "agmixer": {"torch": Source("agmixer", "from_torch", ("arcface", 0.0))},
}
READERS = {"mxnet": ("params_file", "read_params"), "keras": ("h5_file", "read_h5"), "torch": ("pth_file", "read_pth")}
KINDS = {"mxnet": "MXNet parameters", "keras": "Keras HDF5", "torch": "PyTorch pickle"}
# A file's first bytes. MXNet's lists of arrays begin with the number 0x112, PyTorch's pickles with their protocol.
MAGIC = {
    b"\x12\x01\0\0\0\0\0\0": "mxnet",
    b"\x89HDF\r\n\x1a\n": "keras",
    b"PK\x03\x04": "torch",
    **{bytes([0x80, protocol]): "torch" for protocol in range(2, 6)},
}


def import_weights(
    file: Union[str, Path],
    network: str,
    out: Union[str, Path],
    crop: Optional[str] = None,
    margin: Optional[float] = None,
) -> List[Path]:
    """Write the model folder `out`, or `out`/NETWORK.params if the file holds a backbone only.

    Returns the written files. Raises `UsageError` for an unknown network or crop, `AgedgeError` for a file that does
    not hold weights of that network.
    """
    if network not in SOURCES:
        raise choices("--as", network, SOURCES)
    if margin is not None and not -0.5 <= margin <= 2:
        raise UsageError(f"--margin={margin}: must be from -0.5 to 2")
    file = Path(file)
    kind = find_kind(file)
    source = SOURCES[network].get(kind)
    if not source:
        known = " or ".join(KINDS[other] for other in SOURCES[network])
        raise AgedgeError(f"{file}: {KINDS[kind]}; {network} is imported from {known}")
    template, usual = source.crop
    chosen = (crop or template, (usual if crop is None else 0.0) if margin is None else margin)
    Crop.named(chosen[0], 1, chosen[1])  # an unknown name is an error before the work begins
    imported = read(file, kind, source)
    block = build(imported, file)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if not imported.complete:
        check_results([Result("--out", out / f"{network}.params", PARAMETERS)], [file])
        return [save_backbone(imported, out / f"{network}.params")]
    card = Card(
        name=network,
        network=block.arguments,
        input={"name": "data", "size": block.size, "channels": "RGB", "range": [0, 255]},
        outputs=dict(block.answers),
        crop=Crop.named(chosen[0], block.size, chosen[1]),
        training={"imported": describe(file, kind, source, chosen)},
    )
    # Not rounded to half precision: an imported model keeps its outputs.
    from agedge.runtime import save_model

    with temporary_folder(out) as stage:
        save_model(block.slim(), card, stage, halve=False)
        check_model_folder(out, stage, list(card.sha256), [file])
        move_model(card, out)
    return [*(out / name for name in card.files["mxnet"].values()), out / "card.json"]


def describe(file: Path, kind: str, source: Source, crop: Tuple[str, float]) -> Dict[str, str]:
    """Describe where the weights come from, for the card."""
    value = {"file": file.name, "sha256": checksum(file), "kind": KINDS[kind], "crop": f"{crop[0]}, margin {crop[1]:g}"}
    return {**value, "note": source.note} if source.note else value


def find_kind(file: Path) -> str:
    """Return "mxnet", "keras" or "torch" by the first bytes. Raises `AgedgeError` for any other file."""
    try:
        with file.open("rb") as opened:
            begin = opened.read(8)
    except OSError as error:
        raise AgedgeError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    for magic, kind in MAGIC.items():
        if begin.startswith(magic):
            return kind
    raise AgedgeError(f"{file}: neither {', '.join(list(KINDS.values())[:-1])} nor {list(KINDS.values())[-1]}")


def read(file: Path, kind: str, source: Source) -> Imported:
    """Read and map the weights of a file. Raises `AgedgeError`, which begins with the file's name."""
    weights = find_function(*READERS[kind])(file)
    try:
        return find_function(source.module, source.mapper)(weights)
    except (AgedgeError, ValueError) as error:  # ValueError: of a network, for invalid arguments
        raise AgedgeError(f"{file}: {error}") from error


def find_function(module: str, name: str) -> Callable[..., Any]:
    """Return a reader or a mapper; its module is imported late, since some need packages that others do not."""
    return getattr(import_module(f"deploy.importers.{module}"), name)


def build(imported: Imported, file: Path) -> Any:
    """Return the network with the weights; those of a backbone leave the rest uninitialised."""
    from mxnet import nd

    import symbols
    from deploy.importers.names import find_shapes, find_weights

    block = symbols.create(**imported.arguments)
    shapes = find_shapes(block)
    given = {name: array.shape for name, array in imported.weights.items()}
    expected = shapes if imported.complete else {name: shape for name, shape in shapes.items() if name in given}
    try:
        require_weights(imported.arguments["name"], expected, given)
    except AgedgeError as error:
        raise AgedgeError(f"{file}: {error}") from error
    parameters = find_weights(block)
    for name, array in imported.weights.items():
        parameters[name].shape = array.shape
    block.initialize()
    for name, array in imported.weights.items():
        parameters[name].set_data(nd.array(array))
    return block


def save_backbone(imported: Imported, file: Path) -> Path:
    """Write Gluon's parameter file: arrays by structural name."""
    import mxnet as mx

    with temporary_folder(file.parent) as folder:
        mx.nd.save(str(folder / file.name), {name: mx.nd.array(array) for name, array in imported.weights.items()})
        rename_synced(folder / file.name, file)
    return file

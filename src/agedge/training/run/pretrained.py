"""Load the weights that a run starts from: those of another run, of a model, or of a parameter file."""

import contextlib
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

from agedge.errors import AgedgeError
from agedge.faces.essh.card import DetectorCard, is_detector
from agedge.run_folder import BEST
from agedge.runtime.card import Card, load_card
from agedge.training.run.checkpoint import extract_params, read_state
from agedge.training.weights.load_weights import fits, load_weights, read_params
from agedge.training.weights.param_groups import match_names


class LoadedWeights(NamedTuple):
    """The file that a network's weights were loaded from, and the parameters that stay as initialized."""

    file: Path
    fresh: List[str]

    def describe(self) -> str:
        """Return the file and the parameters that start anew, as a line."""
        if not self.fresh:
            return str(self.file)
        blocks = ", ".join(dict.fromkeys(name.split(".")[0] for name in self.fresh))
        return f"{self.file}; {len(self.fresh)} parameters start afresh, of {blocks}"


def load_pretrained(network: Any, source: str, ctx: Any, fresh: Sequence[str] = ()) -> LoadedWeights:
    """Load weights from "PREFIX,EPOCH", a FILE.params, a run (its best checkpoint) or a model folder.

    `fresh`: patterns of structural names, such as `age.*`, of parameters that are not loaded.
    """
    with open_params(source) as (file, params):
        return LoadedWeights(file, load_weights(network, params, ctx, file, fresh))


def load_pretrained_detector(network: Any, source: str, ctx: Any, fresh: Sequence[str] = ()) -> LoadedWeights:
    """Load weights as `load_pretrained` does, into a detector of `body`, `fusion` and heads.

    Where the file has none of the heads, only the body is loaded. The file may be of a network of ages and genders:
    models/mobilenet025 has the body of the detector. Raises `AgedgeError` if the body is another one.
    """
    with open_params(source) as (file, params):
        given, structure = read_params(params, file), network._collect_params_with_prefix()
        body = {name: parameter for name, parameter in structure.items() if name.startswith("body.")}
        if any(name in given or p.name in given for name, p in structure.items() if name not in body):
            return LoadedWeights(file, load_weights(network, params, ctx, file, fresh))
        given = {_name_in_body(name): value for name, value in given.items()}
        left = match_names(fresh, structure, "fresh")
        for name, parameter in body.items():
            value = next((given[key] for key in map(_name_in_body, (name, parameter.name)) if key in given), None)
            if value is None or not fits(parameter.shape, value.shape):
                differs = "is not in it" if value is None else f"is {value.shape}, not {parameter.shape}"
                raise AgedgeError(f"{file}: not the body of this network: {name} {differs}")
            if name not in left:
                parameter._load_init(value, ctx)
    return LoadedWeights(file, [name for name in structure if name not in body or name in left])


def _name_in_body(name: str) -> str:
    """Return a parameter's name within its body, of a structural name or of a Module's name."""
    return name.split("_body_", 1)[-1].replace("body.layers.", "body.", 1)


@contextlib.contextmanager
def open_params(source: str) -> Iterator[Tuple[Path, Path]]:
    """Give the file that a source names, and its parameter file, which may be temporary."""
    prefix, comma, epoch = source.rpartition(",")
    if comma and epoch.strip().isdigit():
        file = Path(f"{prefix}-{int(epoch):04d}.params")
    elif source.endswith(".params"):
        file = Path(source)
    elif (Path(source) / BEST).is_file():
        file = Path(source) / BEST
        read_state(file)
        with extract_params(file) as params:
            yield file, params
        return
    else:
        file = load_card(source, DetectorCard if is_detector(source) else Card).path("mxnet", "params")
    yield file, file

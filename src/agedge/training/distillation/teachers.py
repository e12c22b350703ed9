"""Teachers: networks whose outputs a student learns in addition to the labels (see `loss.py`)."""

import hashlib
import json
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import yaml

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.faces.align import resize_square
from agedge.run_folder import BEST, MODEL, RECIPE
from agedge.runtime.card import load_card
from agedge.runtime.model import to_network_input
from agedge.runtime.model_files import find_model
from agedge.training.recipe import DistillSection
from agedge.training.run.pretrained import open_params
from agedge.training.weights.load_weights import find_output_parameters, load_weights

if TYPE_CHECKING:
    from mxnet import Context
    from mxnet.gluon import HybridBlock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A network with its weights on MXNet contexts.

    `name`: its source; `crop`: the crop of its training faces, or None if unknown; `digest`: a hash of its arguments
    and weights.
    """

    name: str
    network: "HybridBlock"
    crop: Optional[Crop]
    digest: str
    contexts: "List[Context]"

    def open_predictor(self, features: bool = False) -> Callable[[np.ndarray], Dict[str, np.ndarray]]:
        """Return `predict(images)`: faces (n, S, S, 3) BGR uint8 of any side -> {output: (n, k) float32}."""
        from mxnet import gluon

        from agedge.training.distillation.loss import TeacherNetwork

        block = TeacherNetwork(self.network, features)
        block.hybridize(static_alloc=True)
        size = self.network.size

        def predict(images: np.ndarray) -> Dict[str, np.ndarray]:
            if images.shape[1] != size:
                images = np.stack([resize_square(image, size) for image in images])
            contexts = self.contexts[: len(images)]
            with warnings.catch_warnings():  # MXNet's warning about parameters that only the loss uses
                warnings.filterwarnings("ignore", "Parameter .* not used by any computation")
                shares = gluon.utils.split_and_load(to_network_input(images), contexts, even_split=False)
                parts = [block(share) for share in shares]
            outputs = [np.concatenate([value.asnumpy() for value in values]) for values in zip(*parts)]
            if not all(np.isfinite(value).all() for value in outputs):
                raise AgedgeError(
                    f"{self.name}: this teacher outputs NaN or infinity: its weights are damaged or untrained"
                )
            return dict(zip(block.names, outputs))

        return predict


def choose_targets(network: "HybridBlock", distill: DistillSection) -> Tuple[str, ...]:
    """Return the targets that a student can learn and that have a weight in the recipe. Raises `UsageError` if there
    are none, or if hints are set for a network without features."""
    from agedge.training.distillation.loss import has_distribution

    name = network.arguments["name"]
    if distill.hints and not network.embeds:
        raise UsageError(f"distill.hints={distill.hints}: '{name}' has no pooled features to train; set it to 0")
    targets: List[str] = []
    if "age" in network.answers and distill.weight > 0:
        targets = ["ages", "age"] if has_distribution(network) else ["age"]
    targets += ["p_male"] * ("p_male" in network.answers and distill.gender > 0)
    targets += ["features"] * (distill.hints > 0)
    if not targets:
        raise UsageError(
            f"distill.teachers: nothing to learn for '{name}' with these values of distill.weight, gender and hints"
        )
    return tuple(targets)


def load_teachers(
    create: "Callable[..., HybridBlock]",
    sources: Sequence[str],
    size: int,
    contexts: "List[Context]",
    crop: Optional[Crop] = None,
) -> List[Teacher]:
    """Load a teacher from each source: a run (its best checkpoint), or a model folder, PREFIX or PREFIX,EPOCH with a
    card.

    `create(**arguments)` builds a network. `size` (pixels) and `crop` are those of the training faces; a warning
    names a teacher with another crop. Raises `AgedgeError` if a source is not a teacher.
    """
    teachers = []
    for source in sources:
        teacher = load_teacher(create, source, contexts)
        if crop and teacher.crop and not teacher.crop.same_as(crop):
            log.warning(
                "%s: this teacher was trained on a different crop from that of data.train: its outputs will be wrong",
                teacher.name,
            )
        if teacher.network.size != size:
            log.info(
                "%s: the faces are resized from %d to %d pixels for this teacher",
                teacher.name,
                size,
                teacher.network.size,
            )
        teachers.append(teacher)
    return teachers


def load_teacher(create: "Callable[..., HybridBlock]", source: str, contexts: "List[Context]") -> Teacher:
    """Load a teacher; see `load_teachers`."""
    import mxnet as mx

    arguments, crop, weights = read_source(source)
    try:
        network = create(**arguments)
    except (TypeError, ValueError) as error:
        raise AgedgeError(f"{source}: not a teacher: its network cannot be built: {error}") from None
    if not hasattr(network, "answers"):
        raise AgedgeError(
            f"{source}: not a teacher: '{arguments['name']}' is a face detector, not an age and gender network"
        )
    network.initialize_for_training(contexts)
    network(mx.nd.zeros((1, 3, network.size, network.size), ctx=contexts[0]))  # infer the shapes of the parameters
    with open_params(weights) as (file, params):
        left = load_weights(network, params, contexts, shown_as=file)
    structure, needed = network._collect_params_with_prefix(), find_output_parameters(network)
    missing = [name for name in left if structure[name].name in needed]
    if missing:
        raise AgedgeError(f"{file}: not a teacher: {len(missing)} weights are missing, such as {missing[0]}")
    return Teacher(str(source), network, crop, digest_of(network), contexts)


class TeacherSource(NamedTuple):
    """The arguments of a teacher's network, the crop of its training faces (or None), and the source of its weights.

    `weights` is the argument of `open_params`.
    """

    arguments: Dict[str, Any]
    crop: Optional[Crop]
    weights: str


def read_source(source: str) -> TeacherSource:
    """Read the card or the recipe of a teacher. Raises `AgedgeError` if there is none."""
    folder = Path(source)
    if (folder / BEST).is_file():
        recipe = folder / RECIPE
        try:
            arguments = dict(yaml.safe_load(recipe.read_text(encoding="utf-8"))["network"])
            arguments["name"]
        except OSError as error:
            raise AgedgeError(f"{recipe}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
            raise AgedgeError(f"{recipe}: does not contain the network of the run") from None
        finished = (folder / MODEL / "card.json").is_file()
        return TeacherSource(arguments, load_card(folder).crop if finished else None, source)
    weights = source
    if re.fullmatch(r".+,\s*\d+", source) and not folder.is_dir():
        card = find_model(source)
    elif not folder.is_dir() and (folder.parent / "card.json").is_file():
        card = load_card(folder.parent)
        if card.files.get("mxnet", {}).get("symbol") != f"{folder.name}-symbol.json":
            raise AgedgeError(f"{source}: card.json in its folder is of another model")
        weights = str(folder.parent)
    else:
        card = load_card(source)
    if "name" not in card.network:
        raise AgedgeError(f"{source}: not a teacher: its card.json does not contain a network of this project")
    return TeacherSource(card.network, card.crop, weights)


def digest_of(network: "HybridBlock") -> str:
    """Return the SHA-256 of a network's arguments and weights, in hex."""
    value = hashlib.sha256(json.dumps(network.arguments, sort_keys=True).encode())
    for name, parameter in sorted(network._collect_params_with_prefix().items()):
        value.update(name.encode())
        value.update(parameter.list_data()[0].asnumpy().tobytes())
    return value.hexdigest()

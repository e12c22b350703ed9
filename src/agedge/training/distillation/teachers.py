"""Teachers: larger networks, or several, whose answers a student learns besides the labels (see `distill_loss`)."""

import hashlib
import json
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence

import numpy as np
import yaml

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.faces.align import resize_square
from agedge.run_folder import BEST, MODEL, RECIPE
from agedge.runtime.card import load_card
from agedge.runtime.model import to_network_input
from agedge.runtime.model_files import find_model
from agedge.training.run.pretrained import open_params
from agedge.training.weights.load_weights import find_answering, load_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A network with its weights on MXNet contexts. `crop`: how the faces that it knows were cut, where that is known;
    `digest`: of its weights and its form."""

    name: str
    network: object
    crop: Optional[Crop]
    digest: str
    contexts: list

    def asker(self, features: bool = False) -> Callable[[np.ndarray], Dict[str, np.ndarray]]:
        """`ask(images)`: faces (n, S, S, 3) BGR uint8 of any side -> {what it says: (n, k) float32}."""
        from mxnet import gluon

        from agedge.training.distillation.loss import TeacherAnswers

        block = TeacherAnswers(self.network, features)
        block.hybridize(static_alloc=True)
        size = self.network.size

        def ask(images: np.ndarray) -> Dict[str, np.ndarray]:
            if images.shape[1] != size:
                images = np.stack([resize_square(image, size) for image in images])
            contexts = self.contexts[: len(images)]
            with warnings.catch_warnings():  # MXNet's, of parameters that only the loss needs
                warnings.filterwarnings("ignore", "Parameter .* not used by any computation")
                shares = gluon.utils.split_and_load(to_network_input(images), contexts, even_split=False)
                parts = [block(share) for share in shares]
            said = [np.concatenate([value.asnumpy() for value in values]) for values in zip(*parts)]
            if not all(np.isfinite(value).all() for value in said):
                raise AgedgeError(f"{self.name}: this teacher answers NaN: damaged or untrained weights")
            return dict(zip(block.names, said))

        return ask


def wanted(network, distill) -> tuple:
    """What a student can learn of teachers, and the section `distill` of a recipe asks for. Raises `UsageError` where
    that is nothing, or a network without features is to learn features."""
    from agedge.training.distillation.loss import has_distribution

    name = network.arguments["name"]
    if distill["hints"] and not network.embeds:
        raise UsageError(f"distill.hints={distill['hints']}: '{name}' has no pooled features that could learn; give 0")
    what = []
    if "age" in network.answers and distill["weight"] > 0:
        what = ["ages", "age"] if has_distribution(network) else ["age"]
    what += ["p_male"] * ("p_male" in network.answers and distill["gender"] > 0)
    what += ["features"] * (distill["hints"] > 0)
    if not what:
        raise UsageError(f"distill.teachers: nothing to learn for '{name}': weight, gender and hints leave nothing")
    return tuple(what)


def load_teachers(
    create: Callable, sources: Sequence[str], size: int, contexts: list, crop: Optional[Crop] = None
) -> list:
    """A `Teacher` of each source: a run (its best checkpoint), or a model folder, PREFIX or PREFIX,EPOCH with a card.

    `create(**arguments)` builds a network. `size`: the side of the faces in pixels, and `crop`: how they were cut; a
    teacher that knows them otherwise is told of. Raises `AgedgeError` where a source is no such thing.
    """
    teachers = []
    for source in sources:
        teacher = load_teacher(create, source, contexts)
        if crop and teacher.crop and not teacher.crop.same_as(crop):
            log.warning("%s: this teacher knows faces of another crop than the data's: it will be wrong", teacher.name)
        if teacher.network.size != size:
            log.info("%s: sees the faces of %d pixels at %d", teacher.name, size, teacher.network.size)
        teachers.append(teacher)
    return teachers


def load_teacher(create: Callable, source: str, contexts: list) -> Teacher:
    """See `load_teachers`."""
    import mxnet as mx

    arguments, crop, weights = describe(source)
    try:
        network = create(**arguments)
    except (TypeError, ValueError) as error:
        raise AgedgeError(f"{source}: no teacher: its network cannot be built: {error}") from None
    if not hasattr(network, "answers"):
        raise AgedgeError(f"{source}: no teacher: '{arguments['name']}' finds faces, and knows no ages")
    network.initialize_for_training(contexts)
    network(mx.nd.zeros((1, 3, network.size, network.size), ctx=contexts[0]))  # MXNet learns the shapes
    with open_params(weights) as (file, params):
        left = load_weights(network, params, contexts, shown_as=file)
    structure, answering = network._collect_params_with_prefix(), find_answering(network)
    untaught = [name for name in left if structure[name].name in answering]
    if untaught:
        raise AgedgeError(f"{file}: no teacher: {len(untaught)} weights are not in it, as {untaught[0]}")
    return Teacher(str(source), network, crop, digest_of(network), contexts)


def describe(source: str) -> tuple:
    """(arguments of the network, crop or None, what `open_params` takes) of a teacher's source."""
    folder = Path(source)
    if (folder / BEST).is_file():
        recipe = folder / RECIPE
        try:
            arguments = dict(yaml.safe_load(recipe.read_text(encoding="utf-8"))["network"])
            arguments["name"]
        except OSError as error:
            raise AgedgeError(f"{recipe}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
            raise AgedgeError(f"{recipe}: it does not say which network the run is of") from None
        finished = (folder / MODEL / "card.json").is_file()
        return arguments, load_card(folder).crop if finished else None, source
    weights, card = source, None
    if re.fullmatch(r".+,\s*\d+", source) and not folder.is_dir():
        card = find_model(source)
    elif not folder.is_dir() and (folder.parent / "card.json").is_file():
        card = load_card(folder.parent)
        if card.files.get("mxnet", {}).get("symbol") != f"{folder.name}-symbol.json":
            raise AgedgeError(f"{source}: card.json beside it is of another model")
        weights = str(folder.parent)
    else:
        card = load_card(source)
    if "name" not in card.network:
        raise AgedgeError(f"{source}: no teacher: no card.json says which network of ours it is")
    return card.network, card.crop, weights


def digest_of(network) -> str:
    """SHA-256 of a network's arguments and weights, in hex."""
    value = hashlib.sha256(json.dumps(network.arguments, sort_keys=True).encode())
    for name, parameter in sorted(network._collect_params_with_prefix().items()):
        value.update(name.encode())
        value.update(parameter.list_data()[0].asnumpy().tobytes())
    return value.hexdigest()

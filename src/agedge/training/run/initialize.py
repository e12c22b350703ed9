"""How a run starts: its folder, its weights and its optimizer."""

import contextlib
import logging
import random
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.locks import open_locked
from agedge.run_folder import BEST, CACHE, LAST, MODEL, RECIPE, list_last
from agedge.safe_write import remove_leftovers
from agedge.training.recipe import OptimizerSection, Recipe
from agedge.training.weights.param_groups import decay_weights_alone, freeze, match_names, set_rates

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_folder(folder: Path, resume: bool) -> Iterator[Path]:
    """Create the run's folder, or open it to resume, and lock it against other processes.

    Temporary files of killed processes are removed. Raises `AgedgeError` if the folder holds a run and `resume` is
    False, if there is no run to resume, and if another process trains into the folder.
    """
    checkpoints = list_last(folder)
    if checkpoints and not resume:
        raise AgedgeError(f"{folder}: holds a run already: go on with it by --resume, or give another run.dir")
    results = [name for name in (BEST, MODEL) if (folder / name).exists()]
    if results and not checkpoints:
        raise AgedgeError(
            f"{folder}: holds {' and '.join(results)} of a run whose last.ckpt is gone: give another run.dir"
        )
    if resume and not checkpoints and not was_started(folder):
        raise AgedgeError(f"{folder / LAST}: missing: there is no run to resume")
    (folder / CACHE).mkdir(parents=True, exist_ok=True)
    for place in (folder, folder / CACHE):
        remove_leftovers(place)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(open_locked(folder / CACHE / "lock"))
        except AgedgeError:
            raise AgedgeError(f"{folder}: another process trains into it") from None
        yield folder


def was_started(folder: Path) -> bool:
    """Return whether the folder holds a run that ended before its first checkpoint."""
    return (folder / RECIPE).is_file() and not any(folder.glob("*.broken"))


def initialize_weights(network: Any, recipe: Recipe, contexts: list, size: int, load: Callable, resume: bool) -> None:
    """Initialize the network's weights on MXNet contexts, and set which parameters learn and at which rate.

    Weights are random or, unless the run resumes, loaded from `recipe.pretrained` by `load`: `load_pretrained` or
    `load_pretrained_detector`. `size`: side of an image in pixels. Raises `AgedgeError` if weights do not fit.
    """
    import mxnet as mx

    mx.random.seed(recipe.train.seed)
    network.initialize_for_training(contexts)
    network(mx.nd.zeros((1, 3, size, size), ctx=contexts[0]))  # MXNet infers the shapes
    match_names(recipe.fresh, network._collect_params_with_prefix(), "fresh")  # a misspelt name is always an error
    if recipe.pretrained and not resume:
        log.info("starting from %s", load(network, recipe.pretrained, contexts, recipe.fresh).describe())
    if recipe.optimizer.freeze:
        log.info("%d parameters are frozen", freeze(network, recipe.optimizer.freeze))
    set_rates(network, recipe.optimizer.lr, recipe.optimizer.lr_of)
    if recipe.optimizer.wd_on == "weights":
        decay_weights_alone(network)
    network.fuse(recipe.train.fuse and all(context.device_type == "cpu" for context in contexts))


def optimizer_options(optimizer: OptimizerSection) -> Dict[str, float]:
    """Return the arguments of the MXNet optimizer that a recipe's section `optimizer` names.

    Raises `UsageError` on an unknown name.
    """
    from mxnet.optimizer import Optimizer

    known = sorted(set(Optimizer.opt_registry) - {"groupadagrad"})  # Gluon does not create groupadagrad's states
    if optimizer.name not in known:
        raise choices("optimizer.name", optimizer.name, known)
    if optimizer.name == "nag":
        log.warning("optimizer.name=nag: not deterministic in MXNet; a resumed run is close to the same, not bit-equal")
    options = {"learning_rate": optimizer.lr, "wd": optimizer.wd}
    return {**options, "momentum": optimizer.momentum} if optimizer.name in ("sgd", "nag") else options


def seed_everything(seed: int, step: int) -> None:
    """Seed Python, NumPy and MXNet for the steps from `step` on."""
    import mxnet as mx

    value = (seed * 1_000_003 + step) % 2**31
    random.seed(value)
    np.random.seed(value)
    mx.random.seed(value)

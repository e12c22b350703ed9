"""How a run starts: its folder, its weights and what of them learns, and where an earlier run of it stopped."""

import contextlib
import logging
import random
from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from agedge.errors import AgedgeError, UsageError, choices
from agedge.locks import open_alone
from agedge.run_folder import BEST, CACHE, MODEL, RECIPE, list_last
from agedge.safe_write import remove_leftovers
from agedge.training.run.checkpoint import find_last, load_checkpoint, read_state
from agedge.training.weights.param_groups import decay_weights_alone, freeze, match_names, set_rates

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_folder(folder: Path, resume: bool) -> Iterator[Path]:
    """Make the run's folder, this process's alone meanwhile.

    What processes that were killed have left there is removed. Raises `AgedgeError` where a run, or what it gave, lies
    there already and was not asked to go on, where there is none to go on with, and where another process trains into
    it.
    """
    begun = list_last(folder)
    if begun and not resume:
        raise AgedgeError(f"{folder}: holds a run already: go on with it by --resume, or give another run.dir")
    results = [name for name in (BEST, MODEL) if (folder / name).exists()]
    if results and not begun:
        raise AgedgeError(
            f"{folder}: holds {' and '.join(results)} of a run whose last.ckpt is gone: give another run.dir"
        )
    if resume and not begun and not was_begun(folder):
        raise AgedgeError(f"{folder / 'last.ckpt'}: missing: there is no run to resume")
    (folder / CACHE).mkdir(parents=True, exist_ok=True)
    for place in (folder, folder / CACHE):
        remove_leftovers(place)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(open_alone(folder / CACHE / "lock"))
        except AgedgeError:
            raise AgedgeError(f"{folder}: another process trains into it") from None
        yield folder


def was_begun(folder: Path) -> bool:
    """Return whether a run began in a folder and was ended before it had saved a checkpoint."""
    return (folder / RECIPE).is_file() and not any(folder.glob("*.broken"))


def start_weights(network, recipe, contexts: list, size: int, load: Callable, resume: bool) -> None:
    """Give `network` its weights on MXNet contexts, and the recipe's rates of learning.

    They are fresh or, unless the run resumes, what `load` takes from `recipe.pretrained`: `load_pretrained` or
    `load_pretrained_detector`. `size`: pixels of an image's side. Raises `AgedgeError` where weights do not fit.
    """
    import mxnet as mx

    mx.random.seed(recipe.train.seed)
    network.initialize_for_training(contexts)
    network(mx.nd.zeros((1, 3, size, size), ctx=contexts[0]))  # MXNet learns the shapes
    match_names(recipe.fresh, network._collect_params_with_prefix(), "fresh")  # a misspelt one is told in any case
    if recipe.pretrained and not resume:
        log.info("starting from %s", load(network, recipe.pretrained, contexts, recipe.fresh).describe())
    if recipe.optimizer.freeze:
        log.info("%d parameters are frozen", freeze(network, recipe.optimizer.freeze))
    set_rates(network, recipe.optimizer.lr, recipe.optimizer.lr_of)
    if recipe.optimizer.wd_on == "weights":
        decay_weights_alone(network)
    network.fuse(recipe.train.fuse and all(context.device_type == "cpu" for context in contexts))


def start_state(network, recipe, trainer, contexts: list, folder: Path, resume: bool, same: dict) -> tuple:
    """(where the run stands, the checkpoint that it goes on from or None): at its beginning, or where its last intact
    checkpoint was saved, whose weights and optimizer state are then loaded.

    `same`: what a resumed run must have as it had it, {key of the recipe: value}. Raises `AgedgeError`, `UsageError`
    where that has changed.
    """
    if not resume:
        return {"epoch": 0, "step": 0, "best": None, "best_epoch": 0, "same": same}, None
    file = find_last(folder)
    state = read_state(file)
    begun = {f"optimizer.{key}": value for key, value in state.get("optimizer", {}).items()}  # version 1
    begun.update(state.get("same", {}))
    for key, value in same.items():
        if begun.get(key, value) != value:
            raise UsageError(f"{file}: was begun with {key}={begun[key]}, not {value}")
    state = load_checkpoint(file, network, trainer, contexts)
    state.pop("optimizer", None)
    if state["version"] == 1:
        log.info("%s: of an earlier release, which saved between epochs: it goes on from there", file)
    return {**state, "same": same}, file


def optimizer_options(optimizer) -> dict:
    """What MXNet's optimizer of that name takes from the recipe. Raises `UsageError` on an unknown name."""
    from mxnet.optimizer import Optimizer

    known = sorted(set(Optimizer.opt_registry) - {"groupadagrad"})  # whose states Gluon does not know to shape
    if optimizer.name not in known:
        raise choices("optimizer.name", optimizer.name, known)
    if optimizer.name == "nag":
        log.warning(
            "optimizer.name=nag: MXNet's does not give the same bits twice; a resumed run is near, not the same"
        )
    options = {"learning_rate": optimizer.lr, "wd": optimizer.wd}
    return {**options, "momentum": optimizer.momentum} if optimizer.name in ("sgd", "nag") else options


def seed_everything(seed: int, step: int) -> None:
    """Seed Python, NumPy and MXNet for the steps from `step` on."""
    import mxnet as mx

    value = (seed * 1_000_003 + step) % 2**31
    random.seed(value)
    np.random.seed(value)
    mx.random.seed(value)

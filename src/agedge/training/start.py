"""How a run starts: its folder, its weights and what of them learns, and where an earlier run of it stopped."""

import logging
import random
from pathlib import Path
from typing import Callable

import numpy as np
import yaml

from agedge.errors import AgedgeError, UsageError, choices
from agedge.training.checkpoint import load_checkpoint
from agedge.training.parameters import freeze, match_names, set_rates
from agedge.training.recipe import as_plain

log = logging.getLogger(__name__)


def open_folder(folder: Path, resume: bool) -> Path:
    """Make the run's folder. Raises `AgedgeError` where a run lies there already and was not asked to go on, or where
    there is none to go on with."""
    begun = (folder / "last.ckpt").is_file()
    if begun and not resume:
        raise AgedgeError(f"{folder}: holds a run already: go on with it by --resume, or give another run.dir")
    if resume and not begun:
        raise AgedgeError(f"{folder / 'last.ckpt'}: missing: there is no run to resume")
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    return folder


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
    network.fuse(recipe.train.fuse and all(context.device_type == "cpu" for context in contexts))


def start_state(network, recipe, trainer, contexts: list, folder: Path, resume: bool) -> dict:
    """Where the run stands: at its beginning, or where its last checkpoint was saved, whose weights and optimizer state
    are then loaded. The recipe is written into the folder. Raises `AgedgeError`."""
    state = {"epoch": 0, "step": 0, "best": None, "best_epoch": 0, "seed": recipe.train.seed}
    if resume:
        state = load_checkpoint(folder / "last.ckpt", network, trainer, contexts)
        check_same_optimizer(state, recipe, folder)
        log.info("resuming after epoch %d, step %d", state["epoch"], state["step"])
    (folder / "recipe.yaml").write_text(yaml.safe_dump(as_plain(recipe), sort_keys=False), encoding="utf-8")
    return {**state, "optimizer": as_plain(recipe.optimizer)}


def check_same_optimizer(state: dict, recipe, folder: Path) -> None:
    """Raises `UsageError` where a run is to be resumed with another optimizer than the one that was saved with it."""
    begun = state.get("optimizer", {})
    for key in ("name", "wd", "momentum", "freeze"):
        if begun.get(key, recipe.optimizer[key]) != recipe.optimizer[key]:
            raise UsageError(
                f"{folder / 'last.ckpt'}: was begun with optimizer.{key}={begun[key]}, not {recipe.optimizer[key]}"
            )


def optimizer_options(optimizer) -> dict:
    """What MXNet's optimizer of that name takes from the recipe. Raises `UsageError` on an unknown name."""
    from mxnet.optimizer import Optimizer

    if optimizer.name not in Optimizer.opt_registry:
        raise choices("optimizer.name", optimizer.name, sorted(Optimizer.opt_registry))
    options = {"learning_rate": optimizer.lr, "wd": optimizer.wd}
    return {**options, "momentum": optimizer.momentum} if optimizer.name in ("sgd", "nag") else options


def seed_everything(seed: int, epoch: int) -> int:
    """Seed Python, NumPy and MXNet for an epoch; returns the seed, for the reader of the data."""
    import mxnet as mx

    value = (seed * 100_003 + epoch) % 2**31
    random.seed(value)
    np.random.seed(value)
    mx.random.seed(value)
    return value

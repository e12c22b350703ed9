"""The options of train.py. They are those of MXNet's training scripts, and are converted to recipe overrides."""

import dataclasses
import functools
import inspect
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Callable, List, Optional, Tuple

import typer

from agedge.errors import UsageError
from agedge.shipped import find_shipped
from agedge.training.commands.flags import flags_to_overrides
from agedge.training.distributed.cluster import KINDS
from agedge.training.distributed.launch import share_gpus
from agedge.training.recipe import Recipe, load_recipe

log = logging.getLogger(__name__)


def option(help: str, **settings: Any) -> Any:
    """Return a command-line option with a help text."""
    return typer.Option(help=help, **settings)


@dataclass(frozen=True)
class TrainOptions:
    """The command line of train.py."""

    overrides: Annotated[
        Optional[List[str]], typer.Argument(metavar="[KEY=VALUE]...", help="Such as optimizer.lr=0.001")
    ] = None
    recipe: Annotated[Optional[Path], option("A YAML file of recipes/.")] = None
    test: Annotated[bool, typer.Option("--test", help="Only evaluate the run in run.dir on data.test or data.val.")] = (
        False
    )
    fin: Annotated[bool, typer.Option("--fin", help="Fine-tune to other age classes: freeze the backbone.")] = False
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in run.dir from its last checkpoint.")] = (
        False
    )
    gpus: Annotated[str, option("GPUs to train on, such as 0,1; empty: the CPU.")] = ""
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")] = False
    data_dir: Annotated[Optional[Path], option("Folder of train.rec, val.rec (and test.rec), or of folds.")] = None
    split: Annotated[Optional[int], option("Number of a split of the folds in --data-dir; from 0.")] = None
    labels: Annotated[str, option("data.labels: gender,age or age,gender for files of older tools.")] = ""
    prefix: Annotated[str, option("run.dir: the run's folder.")] = ""
    network: Annotated[str, option("network.name, such as mobilenet025; or mobilenet, with --multiplier.")] = ""
    multiplier: Annotated[Optional[float], option("With --network mobilenet: 0.25, 0.5 or 1.0.")] = None
    per_batch_size: Annotated[Optional[int], option("Batch size of each device.")] = None
    lr: Annotated[Optional[float], option("optimizer.lr")] = None
    lr_steps: Annotated[str, option("Steps at which the learning rate is divided by 10, such as 40000,70000.")] = ""
    ckpt: Annotated[Optional[int], option("Accepted for existing scripts; last and best are always kept.")] = None
    pretrained: Annotated[str, option("Initial weights: PREFIX,EPOCH, or a run or model folder.")] = ""
    max_steps: Annotated[Optional[int], option("train.max_steps")] = None
    end_epoch: Annotated[Optional[int], option("train.epochs")] = None
    keep: Annotated[Optional[int], option("run.keep: how many of the last checkpoints to keep.")] = None
    kvstore: Annotated[str, option("train.kvstore: device, local; dist_sync: several machines (docs/scale.md).")] = ""
    launch: Annotated[Optional[int], option("Train as N workers on this machine.", metavar="N")] = None
    sweep: Annotated[
        Optional[List[str]],
        option("Train once per value, or over a range KEY=LOW..HIGH; may be repeated.", metavar="KEY=VALUE,.."),
    ] = None
    trials: Annotated[int, option("Number of runs of a --sweep over a range.")] = 0

    def check(self) -> None:
        """Raise `UsageError` if options exclude each other. Log that --ckpt has no effect."""
        if self.sweep and self.test:
            raise UsageError("--sweep: trains; --test measures one run")
        if self.trials and not self.sweep:
            raise UsageError("--trials: only with --sweep")
        if self.launch is not None and self.test:
            raise UsageError("--launch: trains; --test measures a run in one process")
        if self.ckpt is not None:
            log.info("--ckpt: has no effect: last.ckpt and best.ckpt are always kept")

    @property
    def recipe_file(self) -> Optional[Path]:
        """Return the file of --recipe, which may be a recipe in the package."""
        return Path(find_shipped(self.recipe)) if self.recipe else None

    def load(self) -> Tuple[Recipe, List[str]]:
        """Return the recipe, and the overrides that give the same recipe in a child process."""
        flags = {name: getattr(self, name) for name in inspect.signature(flags_to_overrides).parameters}
        if self.launch is not None:  # the overrides are for one worker, with its share of the GPUs
            flags["gpus"] = share_gpus(self.gpus, self.launch)[0]
        overrides = flags_to_overrides(**flags)
        overrides += [] if self.keep is None else [f"run.keep={self.keep}"]
        overrides += [f"train.kvstore={self.kvstore}"] if self.kvstore else []
        overrides += self.overrides or ()
        recipe = load_recipe(self.recipe_file, overrides, "" if self.split is None else f"-split{self.split}")
        return recipe, [*overrides, f"run.dir={json.dumps(recipe.run.dir)}"]

    def worker_kvstore(self, recipe: Recipe) -> str:
        """Return the kind of KVStore for --launch: that of --kvstore, or the recipe's if it spans processes."""
        return self.kvstore or (recipe.train.kvstore if recipe.train.kvstore in KINDS else KINDS[0])

    def worker_arguments(self, overrides: List[str]) -> List[str]:
        """Return the command line of a --launch worker, without --kvstore and --gpus."""
        given = [override for override in overrides if override.partition("=")[0] != "train.kvstore"]
        resume = ["--resume"] if self.resume else []
        return [*self._flags(), *(["--quiet"] if self.quiet else []), *resume, *given]

    def trial_arguments(self, overrides: List[str]) -> List[str]:
        """Return the command line of a --sweep trial, without its values, --quiet and --resume."""
        launch = [] if self.launch is None else ["--launch", str(self.launch)]
        launch += ["--kvstore", self.kvstore] if self.kvstore else []
        return [*self._flags(), *(["--gpus", self.gpus] if self.gpus else []), *launch, *overrides]

    def _flags(self) -> List[str]:
        """Return the options, other than overrides, that every child process needs."""
        flags = ["--recipe", str(self.recipe_file)] if self.recipe else []
        flags += ["--fin"] if self.fin else []
        return flags + (["--debug"] if log.isEnabledFor(logging.DEBUG) else [])


def with_options(command: Callable[[TrainOptions], None]) -> Callable[..., None]:
    """Return a function for typer that takes the fields of `TrainOptions` as parameters and calls `command`."""

    @functools.wraps(command)
    def main(**values: Any) -> None:
        command(TrainOptions(**values))

    fields = dataclasses.fields(TrainOptions)
    main.__annotations__ = {field.name: field.type for field in fields}
    main.__signature__ = inspect.signature(TrainOptions)  # type: ignore[attr-defined]
    return main

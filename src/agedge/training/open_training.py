"""Prepare the objects that the training loop uses, and save its checkpoints."""

import contextlib
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ContextManager, NamedTuple, Optional

import numpy as np
import yaml

from agedge.errors import AgedgeError
from agedge.run_folder import AVERAGE, BEST, RECIPE, TEST
from agedge.safe_write import write_text
from agedge.training.distributed.kvstore import KVStore
from agedge.training.recipe import Recipe, as_plain
from agedge.training.run.checkpoint import load_part, pack_checkpoint, read_state
from agedge.training.run.checkpoint_saver import CheckpointSaver
from agedge.training.run.initialize import initialize_weights, optimizer_options
from agedge.training.run.metrics_log import MetricsLog
from agedge.training.run.train_state import TrainState, restore_state
from agedge.training.schedule import learning_rate
from agedge.training.task import Task, TrainableNetwork
from agedge.training.weights.averaging import WeightMean

log = logging.getLogger(__name__)

EMA, SWA, DISTILL = "ema.params", "swa.params", "lessons.params"  # optional members of a checkpoint
SAME = {  # settings that must not change when a run resumes
    "optimizer": ("name", "wd", "momentum", "freeze"),
    "train": ("seed", "log_every", "mixup", "ema", "swa"),
}


class RunFiles(NamedTuple):
    """The files that a run writes: checkpoints and metrics."""

    saver: CheckpointSaver
    metrics_log: MetricsLog


@dataclass(frozen=True)
class Training:
    """The objects that the training loop uses. The fields do not change, but the objects do.

    Attributes:
        task: data, objective and validation.
        network: the network that is trained.
        recipe: all settings of the run.
        contexts: MXNet contexts of this worker's devices.
        kvstore: sums over devices and workers.
        trainer: the Gluon trainer that applies the optimizer.
        learning_rate: function from the step to the learning rate.
        gradients: the gradients of every trained parameter, one per context.
        batch_size: images per step, over all workers.
        steps_per_epoch, total_steps: numbers of steps.
        ema: exponential mean of the weights (train.ema), or None.
        swa: mean of the last epochs' weights (train.swa), or None.
        state: progress of the run, as in checkpoints.
        files: the files of the run; None for all workers except the chief.
    """

    task: Task
    network: TrainableNetwork
    recipe: Recipe
    contexts: list
    kvstore: KVStore
    trainer: Any
    learning_rate: Callable[[int], float]
    gradients: list
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    ema: Optional[WeightMean]
    swa: Optional[WeightMean]
    state: TrainState
    files: Optional[RunFiles]

    @property
    def folder(self) -> Path:
        """Return the run's folder."""
        return Path(self.recipe.run.dir)

    def measured_weights(self) -> ContextManager[Any]:
        """Return a context in which the network has the weights for validation and for the finished model."""
        return self.ema.in_place() if self.ema else contextlib.nullcontext()

    def pack(self, name: str) -> bytes:
        """Return the content of the checkpoint `last`, from which the run can resume, or `best`, with the
        validated weights. Raises `OSError`."""
        if name == "best":
            with self.measured_weights():
                return pack_checkpoint(self.network, self.trainer, self.state.to_json())
        more = {key: mean.to_part() for key, mean in ((EMA, self.ema), (SWA, self.swa)) if mean}
        if self.task.distill_loss:
            parameters = self.task.distill_loss._collect_params_with_prefix()
            more[DISTILL] = {key: parameter.list_data()[0] for key, parameter in parameters.items()}
        return pack_checkpoint(self.network, self.trainer, self.state.to_json(), more)

    def save(self, *names: str) -> None:
        """Save the run as checkpoints `last` and `best`. Log a warning if there is not enough memory."""
        assert self.files is not None, "only the chief saves"
        for name in names:
            try:
                content = self.pack(name)
            except OSError as error:
                log.warning("%s: %s.ckpt not saved: %s; the run continues", self.folder, name, error.strerror)
            else:
                self.files.saver.save(name, content)


def open_training(
    task: Task, network: TrainableNetwork, recipe: Recipe, contexts: list, kvstore: KVStore, resume: bool
) -> Training:
    """Prepare a new training, or restore that of the last checkpoint in `recipe.run.dir` to resume it.

    Raises `AgedgeError` if weights do not fit or workers disagree, `UsageError` if the settings have changed.
    """
    from mxnet import gluon

    folder, optimizer = Path(recipe.run.dir), recipe.optimizer
    batch_size = recipe.train.batch_size * kvstore.workers
    steps_per_epoch = -(-task.count // batch_size)
    all_steps = steps_per_epoch * recipe.train.epochs
    total_steps = min(all_steps, recipe.train.max_steps or all_steps)

    initialize_weights(network, recipe, contexts, task.size, task.load, resume)
    if task.distill_loss:
        task.distill_loss.initialize(ctx=contexts)
    task.objective.hybridize(static_alloc=True, static_shape=True)
    parameters = task.objective.collect_params()
    # `kvstore` sums the gradients, so the trainer does not need a KVStore.
    trainer = gluon.Trainer(parameters, optimizer.name, optimizer_options(optimizer), kvstore=None)

    same = {f"{section}.{key}": recipe[section][key] for section, keys in SAME.items() for key in keys}
    same.update({"images": task.count, "train.batch_size of all workers": batch_size})
    if not kvstore.is_chief:
        kvstore.barrier()  # the chief goes first, since it may rename a damaged checkpoint
    state, file = restore_state(network, trainer, contexts, folder, resume, as_plain(same))
    if kvstore.is_chief:
        kvstore.barrier()
    saved_state = dataclasses.replace(state)
    if state.step < state.epoch * steps_per_epoch:  # train.max_steps ended the last epoch early
        state.epoch, state.sums = state.step // steps_per_epoch, None
    counts = {"images": task.count, "steps": total_steps, "log_every": recipe.train.log_every}
    compare_workers(kvstore, folder, {**counts, "start step": state.step})

    ema = restore_mean(network, file, EMA) if recipe.train.ema else None
    swa = restore_mean(network, file, SWA) if recipe.train.swa else None
    if task.distill_loss and (part := file and load_part(file, DISTILL)):
        for name, parameter in task.distill_loss._collect_params_with_prefix().items():
            parameter.set_data(part[name])
    kvstore.broadcast([parameter.list_data() for parameter in parameters.values()])

    training = Training(
        task=task,
        network=network,
        recipe=recipe,
        contexts=contexts,
        kvstore=kvstore,
        trainer=trainer,
        learning_rate=learning_rate(optimizer, total_steps, steps_per_epoch),
        gradients=[parameter.list_grad() for parameter in parameters.values() if parameter.grad_req != "null"],
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        ema=ema,
        swa=swa,
        state=state,
        files=open_files(folder, recipe, state.epoch, task) if kvstore.is_chief else None,
    )
    if resume:
        complete_best(training, saved_state)
        log.info("resuming after epoch %d, step %d", state.epoch, state.step)
    return training


def restore_mean(network: TrainableNetwork, file: Optional[Path], name: str) -> WeightMean:
    """Return the running mean of weights in member `name` of a checkpoint, or a new one."""
    mean = WeightMean(network)
    if part := file and load_part(file, name):
        mean.load_part(part)
    return mean


def open_files(folder: Path, recipe: Recipe, epoch: int, task: Task) -> RunFiles:
    """Open the files that a run writes, and write its recipe.yaml."""
    files = RunFiles(
        CheckpointSaver(folder, recipe.run.keep, recipe.run.save_every), MetricsLog(folder, epoch, task.plot)
    )
    for name in (TEST, AVERAGE):  # they exist only for a finished run
        (folder / name).unlink(missing_ok=True)
    text = yaml.safe_dump(as_plain(recipe), sort_keys=False)
    files.saver.write(RECIPE, lambda: write_text(folder / RECIPE, text))
    return files


def complete_best(training: Training, saved: TrainState) -> None:
    """Write best.ckpt if the run ended after writing last.ckpt (with state `saved`) and before writing best.ckpt."""
    if training.files is None or saved.sums is not None or not 0 < saved.best_epoch == saved.epoch:
        return
    try:
        if read_state(training.folder / BEST).get("best_epoch") == saved.best_epoch:
            return
    except AgedgeError:
        pass
    with training.measured_weights():
        content = pack_checkpoint(training.network, training.trainer, saved.to_json())
    training.files.saver.save("best", content)


def compare_workers(kvstore: KVStore, folder: Path, counts: dict) -> None:
    """Raise `AgedgeError` if the workers differ in one of `counts`, {name: number}, since they would wait forever."""
    table = np.zeros((kvstore.workers, len(counts)))
    table[kvstore.rank] = list(counts.values())
    table = kvstore.sum_small(table.ravel()).reshape(table.shape)
    for name, column in zip(counts, table.T):
        if len(set(column)) > 1:
            raise AgedgeError(f"{folder}: the workers differ in {name}: {', '.join(f'{n:g}' for n in column)}")

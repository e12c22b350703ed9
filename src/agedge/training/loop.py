"""The training loop, for all tasks. What is trained on what, and how that is measured, is the task's."""

import collections
import contextlib
import json
import logging
import signal
import time
from pathlib import Path
from typing import Callable

import numpy as np
import yaml

from agedge.errors import AgedgeError, StoppedError
from agedge.run_folder import AVERAGE, BEST, LOG, RECIPE, TEST, list_last
from agedge.safe_write import write_text
from agedge.training.distributed.kvstore import open_store
from agedge.training.recipe import as_plain
from agedge.training.run.checkpoint import load_part, pack_checkpoint, read_state
from agedge.training.run.checkpoint_saver import Keeper
from agedge.training.run.divergence import ADVICE, DivergedError, Watch
from agedge.training.run.initialize import open_folder, optimizer_options, seed_everything, start_state, start_weights
from agedge.training.run.interrupt import stop_when_asked
from agedge.training.run.metrics_log import RunLog
from agedge.training.run.progress_bar import Progress
from agedge.training.schedule import learning_rate
from agedge.training.weights.averaging import WeightMean, is_statistic

log = logging.getLogger(__name__)

EMA, SWA, LESSONS = "ema.params", "swa.params", "lessons.params"  # parts of a checkpoint besides the network
AHEAD = 3  # steps that MXNet has not done yet when the next one is given to it
STATISTICS = 100  # batches that BatchNorm's statistics of averaged weights are taken from
SAME = {  # what a resumed run must have as it had it
    "optimizer": ("name", "wd", "momentum", "freeze"),
    "train": ("seed", "log_every", "mixup", "ema", "swa"),
}


def run(open_task: Callable, network, recipe, contexts: list, resume: bool = False, progress: bool = True) -> Path:
    """Train `network` as the recipe says, on a list of MXNet contexts, into `recipe.run.dir`. Returns that folder.

    It then holds recipe.yaml, log.csv, TensorBoard events, curves.png, last.ckpt and best.ckpt (the lowest score). A
    run that was killed and resumed ends with the same bits, on a CPU, as one that was not.

    `open_task(network, recipe, folder, store, contexts)` gives the `Task`. Raises `AgedgeError` where data or weights
    cannot be used and where the loss is no number any more, `StoppedError` where a signal asked for it.
    """
    folder = Path(recipe.run.dir)
    store = open_store(recipe.train.kvstore, contexts, str(folder))
    with contextlib.ExitStack() as stack:
        if store.is_chief:  # who alone writes
            stack.enter_context(open_folder(folder, resume))
        if resume and not list_last(folder):
            log.info("%s: nothing was saved yet: starting from the beginning", folder)
            resume = False
        job = Run(open_task(network, recipe, folder, store, contexts), network, recipe, contexts, store, resume)
        stack.callback(job.task.close)
        job.bar = stack.enter_context(
            Progress(recipe.train.epochs, job.total_steps, job.batch_size, progress and store.is_chief)
        )
        job.asked = stack.enter_context(stop_when_asked(log.warning))
        if store.is_chief:
            stack.callback(job.history.close)
        while not job.is_done():
            job.train_epoch()
            job.measure_epoch()
        job.average_epochs()
        if store.is_chief:
            job.keeper.close()
        store.close()
    return folder


class Run:
    """A training, from where it starts or goes on to its end."""

    def __init__(self, task, network, recipe, contexts: list, store, resume: bool):
        from mxnet import gluon

        self.task, self.network, self.recipe, self.contexts, self.store = task, network, recipe, contexts, store
        self.folder, optimizer = Path(recipe.run.dir), recipe.optimizer
        self.batch_size = recipe.train.batch_size * store.workers
        self.steps_an_epoch = -(-task.count // self.batch_size)
        total_steps = self.steps_an_epoch * recipe.train.epochs
        self.total_steps = min(total_steps, recipe.train.max_steps or total_steps)

        start_weights(network, recipe, contexts, task.size, task.load, resume)
        if task.lessons:
            task.lessons.initialize(ctx=contexts)
        task.objective.hybridize(static_alloc=True, static_shape=True)
        parameters = task.objective.collect_params()
        # The gradients are summed by `store`, so the trainer needs none of its own.
        self.trainer = gluon.Trainer(parameters, optimizer.name, optimizer_options(optimizer), kvstore=None)
        self.rate = learning_rate(optimizer, self.total_steps, self.steps_an_epoch)

        same = {f"{section}.{key}": recipe[section][key] for section, keys in SAME.items() for key in keys}
        same.update({"images": task.count, "train.batch_size of all workers": self.batch_size})
        if not store.is_chief:
            store.barrier()  # the chief first, who may put a broken checkpoint aside
        self.state, file = start_state(network, recipe, self.trainer, contexts, self.folder, resume, as_plain(same))
        if store.is_chief:
            store.barrier()
        self.means, self.flying = {}, collections.deque()
        as_saved = dict(self.state)
        if self.state["step"] < self.state["epoch"] * self.steps_an_epoch:  # train.max_steps had cut its last epoch
            self.state.update(epoch=self.state["step"] // self.steps_an_epoch, sums=None)
        self.compare_workers()
        for name, wanted in ((EMA, recipe.train.ema), (SWA, recipe.train.swa)):
            if wanted:
                self.means[name] = WeightMean(network)
                if part := file and load_part(file, name):
                    self.means[name].load_part(part)
        if task.lessons and (part := file and load_part(file, LESSONS)):
            for name, parameter in task.lessons._collect_params_with_prefix().items():
                parameter.set_data(part[name])
        store.broadcast([parameter.list_data() for parameter in parameters.values()])
        self.gradients = [parameter.list_grad() for parameter in parameters.values() if parameter.grad_req != "null"]

        if store.is_chief:
            self.keeper = Keeper(self.folder, recipe.run.keep, recipe.run.save_every)
            self.history = RunLog(self.folder, self.state["epoch"], task.plot)
            for name in (TEST, AVERAGE):  # where they stand, the run is finished
                (self.folder / name).unlink(missing_ok=True)
            text = yaml.safe_dump(as_plain(recipe), sort_keys=False)
            self.keeper.write(RECIPE, lambda: write_text(self.folder / RECIPE, text))
        if resume:
            if store.is_chief:
                self.complete_best(as_saved)
            log.info("resuming after epoch %d, step %d", self.state["epoch"], self.state["step"])

    def complete_best(self, state: dict) -> None:
        """Write best.ckpt where the run ended between writing last.ckpt, of that `state`, and it."""
        if state.get("sums") is not None or not 0 < state["best_epoch"] == state["epoch"]:
            return
        try:
            if read_state(self.folder / BEST).get("best_epoch") == state["best_epoch"]:
                return
        except AgedgeError:
            pass
        with self.averaged():
            self.keeper.save("best", pack_checkpoint(self.network, self.trainer, state))

    def compare_workers(self) -> None:
        """Raises `AgedgeError` where a worker would do another number of steps than the others: all would wait."""
        mine = {"images": self.task.count, "steps": self.total_steps, "log_every": self.recipe.train.log_every}
        mine["begun at step"] = self.state["step"]
        told = np.zeros((self.store.workers, len(mine)))
        told[self.store.rank] = list(mine.values())
        told = self.store.sum_small(told.ravel()).reshape(told.shape)
        for name, column in zip(mine, told.T):
            if len(set(column)) > 1:
                raise AgedgeError(f"{self.folder}: the workers differ in {name}: {', '.join(f'{n:g}' for n in column)}")

    def is_done(self) -> bool:
        """Whether there is no step left, or none that would bring anything better."""
        state, train = self.state, self.recipe.train
        no_better = train.patience and state["epoch"] - state["best_epoch"] >= train.patience
        if no_better and not self.asked:
            log.info("stopped: no better than epoch %d for %d epochs", state["best_epoch"], train.patience)
        return bool(no_better) or state["epoch"] >= train.epochs or state["step"] >= self.total_steps

    def train_epoch(self) -> None:
        """The steps of an epoch that are left to do."""
        state, log_every = self.state, self.recipe.train.log_every
        epoch, done = state["epoch"] + 1, state["epoch"] * self.steps_an_epoch
        first, last = state["step"] - done, min(self.steps_an_epoch, self.total_steps - done)
        self.watch = Watch(self.task, self.store, self.folder, state)
        self.started = time.monotonic() - state.get("seconds", 0.0)
        self.bar.begin(epoch, first, last, state["step"])
        with self.task.batches(epoch, first) as batches:
            for number, batch in zip(range(first, last), batches):
                if number % log_every == 0:
                    # All chance follows from the seed and the step, so that a resumed run goes the same way.
                    seed_everything(self.recipe.train.seed, state["step"])
                self.step(batch)
                # Asking for figures waits for the device: now and then, not every step.
                if (number + 1) % log_every == 0 or number + 1 == last:
                    self.look(more=number + 1 < last)
            state["waited"] = state.get("waited", 0.0) + batches.waited

    def step(self, batch) -> None:
        """One step of the optimizer. It waits for the step before the last `AHEAD` ones and for nothing else, so that
        the device always has work."""
        from mxnet import autograd

        self.trainer.set_learning_rate(self.rate(self.state["step"]))
        losses, tallied = [], []
        for share in split(batch.inputs, self.contexts):
            with autograd.record():
                loss, tallies = self.task.objective(*share)
            losses.append(loss)
            tallied.append(tallies)
            self.watch.add(tallies)
        autograd.backward(losses)
        self.store.sum_gradients(self.gradients)
        if self.recipe.optimizer.clip:
            clip_gradients(self.gradients, self.recipe.optimizer.clip * self.batch_size)
        self.trainer.update(self.batch_size)
        if EMA in self.means:
            self.means[EMA].step(self.recipe.train.ema)
        self.state["step"] += 1
        self.watch.remember(self.state["step"], batch.index, losses)
        self.bar.step()

        # MXNet does not keep an array of NumPy's alive until it has used it. It has, once the next step has its losses.
        self.flying.append((batch.inputs, losses, tallied))
        if len(self.flying) > AHEAD:
            _, _, used = self.flying.popleft()
            for array in (*used, *self.flying[0][1]):
                array.wait_to_read()

    def look(self, more: bool) -> None:
        """Show where the run stands; save it where it is time, and where somebody asked it to stop. `more`: whether
        steps of the epoch are left; else `measure_epoch` saves."""
        parameters = self.network.collect_params().values()
        stop = self.watch.look(bool(self.asked), [parameter.list_data()[0] for parameter in parameters])
        if EMA in self.means:
            self.means[EMA].settle()
        self.state["seconds"] = time.monotonic() - self.started
        self.bar.show(self.task.say(self.task.figures(self.watch.sums)), self.state["step"])
        if not more:
            return
        if self.store.is_chief:
            self.keeper.retry()
            if stop or self.keeper.is_due():
                self.save("last")
        if stop:
            self.stop()

    def measure_epoch(self) -> None:
        """Validate, log, and keep the last and the best."""
        state, sums = self.state, self.watch.sums
        epoch, seconds, waited = state["epoch"] + 1, state["seconds"], state["waited"]
        state.update(epoch=epoch, sums=None, seconds=0.0, waited=0.0)
        self.mean_statistics()
        if SWA in self.means and epoch > -(-self.total_steps // self.steps_an_epoch) * (1 - self.recipe.train.swa):
            self.means[SWA].add()
        if self.store.is_chief:
            with self.averaged():
                measured = self.task.validate()
            if not np.isfinite(measured.score):
                reason = f"its score on data.val is {measured.score}"
                raise DivergedError(f"{self.folder}: diverged: {reason}; {ADVICE}")
            is_best = state["best"] is None or measured.score < state["best"]
            if is_best:
                state.update(best=measured.score, best_epoch=epoch)
            figures = self.task.figures(sums)
            speed = {"images_per_s": round(float(sums[0]) / seconds, 1), "waited": round(waited / seconds, 4)}
            row = {"epoch": epoch, "step": state["step"], "lr": self.trainer.learning_rate, **figures}
            self.keeper.write(LOG, self.history.add({**row, **measured.row, **speed}))
            # Whoever goes on from `last` can complete `best`, as `complete_best` does, but not the other way round.
            self.save(*(("last", "best") if is_best else ("last",)))
            text, best = f"{self.task.say(figures)}; {measured.text}", " (best)" if is_best else ""
            log.info("epoch %d: %s%s; %.0f images/s", epoch, text, best, speed["images_per_s"])
        # The others learn from the chief where the run stands, and everybody whether somebody wants to stop.
        best, best_epoch, stop = self.store.sum_small(
            np.array([*((state["best"], state["best_epoch"]) if self.store.is_chief else (0, 0)), bool(self.asked)])
        )
        state.update(best=float(best), best_epoch=int(best_epoch))
        if stop and not self.is_done():
            self.stop()

    def average_epochs(self) -> None:
        """Measure the mean of the last epochs' weights, and keep it where it is the best."""
        swa = self.means.get(SWA)
        if swa and not swa.count:
            log.warning("train.swa=%g: the run ended before the epochs that it averages", self.recipe.train.swa)
        if not (swa and swa.count):
            return
        with swa.in_place():
            take_statistics(self.task, self.contexts, self.state["epoch"] + 1, self.recipe.train.seed)
            self.mean_statistics()
            if self.store.is_chief:
                try:
                    measured = self.task.validate()
                except DivergedError as error:
                    log.warning("the mean of %d epochs' weights is not used: %s", swa.count, error)
                    return
                is_best = measured.score < self.state["best"]
                log.info("mean of %d epochs' weights: %s%s", swa.count, measured.text, " (best)" if is_best else "")
                text = json.dumps({"epoch": self.state["epoch"], "epochs": swa.count, **measured.row})
                self.keeper.write(AVERAGE, lambda: write_text(self.folder / AVERAGE, text))
                if is_best:
                    self.state.update(best=measured.score, best_epoch=self.state["epoch"])
                    state = {**self.state, "averaged": swa.count}
                    self.keeper.save("best", pack_checkpoint(self.network, self.trainer, state))
        if self.store.is_chief and is_best:
            self.save("last")

    def mean_statistics(self) -> None:
        """BatchNorm's running statistics are those of all devices and workers."""
        self.store.mean([p.list_data() for p in self.network.collect_params().values() if is_statistic(p.name)])

    def averaged(self):
        """A context in which the network has the weights that are measured and shipped."""
        return self.means[EMA].in_place() if EMA in self.means else contextlib.nullcontext()

    def save(self, *names: str) -> None:
        """Write the run as it stands, as `last`, and the weights that were measured, as `best`."""
        more = {name: mean.to_part() for name, mean in self.means.items()}
        if self.task.lessons:
            lessons = self.task.lessons._collect_params_with_prefix()
            more[LESSONS] = {name: parameter.list_data()[0] for name, parameter in lessons.items()}
        for name in names:
            try:
                with self.averaged() if name == "best" else contextlib.nullcontext():
                    content = pack_checkpoint(self.network, self.trainer, self.state, more if name == "last" else None)
            except OSError as error:
                log.warning("%s: %s.ckpt not saved: %s; the run goes on", self.folder, name, error.strerror)
            else:
                self.keeper.save(name, content)

    def stop(self) -> None:
        """Raises `StoppedError`."""
        if self.store.is_chief:
            self.keeper.close()
        self.store.close()
        raise StoppedError(
            f"{self.folder}: saved at step {self.state['step']}; the same command with --resume goes on from there",
            self.asked.number or signal.SIGTERM,  # another worker was asked
        )


def split(inputs: tuple, contexts: list) -> list:
    """A batch's arrays (n, ...) in equal parts on MXNet's contexts; NumPy's without a copy where that is one CPU."""
    from mxnet import gluon, nd

    arrays = [nd.from_numpy(array, zero_copy=True) if isinstance(array, np.ndarray) else array for array in inputs]
    if len(contexts) == 1:
        return [[array.as_in_context(contexts[0]) for array in arrays]]
    return list(zip(*(gluon.utils.split_and_load(array, contexts, even_split=False) for array in arrays)))


def clip_gradients(gradients: list, largest: float) -> None:
    """Scale the gradients, of parameters by context, so that the norm of all together is at most `largest` (Pascanu et
    al. 2013)."""
    from mxnet import gluon

    for on_device in zip(*gradients):
        gluon.utils.clip_global_norm(list(on_device), largest, check_isfinite=False)


def take_statistics(task, contexts: list, epoch: int, seed: int) -> None:
    """Bring BatchNorm's running statistics to the network's weights, by batches of training images.

    Averaged weights have other statistics than the mean of what each had (Izmailov et al. 2018). MXNet takes them in
    the backward pass; no weight changes.
    """
    from mxnet import autograd, nd

    seed_everything(seed, epoch)
    with task.batches(epoch, 0) as batches:
        for _, batch in zip(range(STATISTICS), batches):
            with autograd.record():
                losses = [task.objective(*share)[0] for share in split(batch.inputs, contexts)]
            autograd.backward(losses)
            nd.waitall()  # see `Run.step`

"""Speed and memory of training: python -m benchmarks.training [--write docs/training.md] [KEY=VALUE ...]

Faces a second of the training loop, for each source of the faces, against pure compute (the same network, loss and
optimizer on one batch that never changes), and against the usual MXNet script on the same file. Loop and compute take
turns in bursts within one process, and their ratio is the median over the bursts; the script runs before and after them
in a process of its own. Nothing else should be running.

With --memory: the memory that a process holds after each of ten epochs.
"""

import dataclasses
import itertools
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import median
from typing import List, NamedTuple, Optional

import cv2
import numpy as np
import typer

from agedge.cli import run_command
from agedge.errors import AgedgeError, UsageError
from agedge.labels import exact
from agedge.records import RecordWriter
from agedge.run_folder import CACHE
from agedge.training.distributed.threads import count_cores, use_all_cores
from agedge.training.loop import PendingSteps, check_progress, clip_gradients, save_if_due, train, train_step
from agedge.training.open_training import Training, open_training
from agedge.training.recipe import load_recipe
from agedge.training.run.divergence import DivergenceCheck
from agedge.training.run.initialize import seed_everything
from agedge.training.run.progress_bar import ProgressBar
from agedge.training.tasks.age_gender import AgeGenderTask
from benchmarks.pages import replace_table

RECIPES = [Path("recipes", f"{name}.yaml") for name in ("mobilenet025", "mobilenet025_fast", "ssrnet")]
CACHES = ("memory", "disk", "native")
WARM = 8  # steps before the clock runs
BURSTS = 8
AN_EPOCH = 60  # batches
EPOCHS = 3  # of benchmarks.workers
MEMORY_EPOCHS = 10
HEADER = """| recipe | batch | faces from | compute, faces/s | loop, faces/s | loop/compute | waiting | peak, MB | usual script, faces/s | loop/script |
|---|---|---|---|---|---|---|---|---|---|"""  # noqa: E501


def main(
    overrides: Optional[List[str]] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Overrides for every recipe."),
    recipe: List[Path] = typer.Option(RECIPES, help="A recipe to measure; may be given again."),
    cache: List[str] = typer.Option(list(CACHES), help="A data.cache to measure; may be given again."),
    steps: int = typer.Option(40, min=4, help="Steps a burst."),
    repeats: int = typer.Option(1, min=1, help="Repeats of all measurements."),
    memory: bool = typer.Option(False, "--memory", help="Measure memory over ten epochs instead."),
    write: Optional[Path] = typer.Option(None, help="A Markdown file whose table is replaced."),
):
    """Print the table of docs/training.md, or write it there."""
    if write and not write.is_file():
        raise UsageError(f"{write}: no such page")
    rows = []
    for path in recipe:
        with tempfile.TemporaryDirectory() as folder:
            settings = load_recipe(path, [*(overrides or ()), f"run.dir={folder}/run"])
            if settings.distill.teachers:
                raise UsageError(f"{path}: distill.teachers: pure compute has none")
            settings.data = dataclasses.replace(settings.data, **prepare(settings, AN_EPOCH, Path(folder)))
            name = path.stem
            if memory:
                print(say_memory(name, in_process(hold_memory, settings, cache[0])))
                continue
            turns = [measure_all(settings, cache, steps, folder) for _ in range(repeats)]
        for row in make_rows(name, settings.train.batch_size, cache, turns):
            if not rows:
                print(HEADER)
            rows.append(row)
            print(row, flush=True)
    if write and rows:
        replace_table(write, "\n".join([HEADER, *rows]), "benchmarks.training")


def prepare(recipe, steps: int, folder: Path) -> dict:
    """Write files to train and to validate on; return them as keys of the recipe's `data`."""
    count, size = steps * recipe.train.batch_size, recipe.network.get("size", 112)
    train_on = write_faces(folder / "train.rec", count, size, seed=0)
    return {"train": str(train_on), "val": str(write_faces(folder / "val.rec", 8, size, seed=1)), "labels": "auto"}


def write_faces(path: Path, count: int, size: int, seed: int) -> Path:
    """Write images of smooth noise whose JPEGs are as large as those of faces."""
    rng = np.random.default_rng(seed)
    with RecordWriter(path) as writer:
        for i in range(count):
            image = cv2.resize(rng.integers(0, 255, (size // 4, size // 4, 3), np.uint8), (size, size))
            writer.write(exact(i % 2, i % 90), cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return path


def in_process(measure, *arguments):
    """Call a function in a process of its own. Raises `AgedgeError` where the process dies."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(measure, *arguments).result()
        except BrokenProcessPool:
            raise AgedgeError(f"{measure.__name__}: its process ended (out of memory?)") from None


def measure_all(recipe, caches: list, steps: int, folder: str) -> dict:
    """Measure everything once: {cache: `Pair`, "script": faces/s before and after}."""
    measured = {"script": [in_process(time_script, recipe)]}
    for cache in caches:
        recipe.run.dir = f"{folder}/{cache}{len(list(Path(folder).iterdir()))}"
        measured[cache] = in_process(time_pair, recipe, cache, steps)
    measured["script"].append(in_process(time_script, recipe))
    return measured


class Pair(NamedTuple):
    """Faces/s of bursts of pure compute and of the loop, the share of the time that the loop waited for faces, and the
    megabytes that the process held at most."""

    compute: list
    loop: list
    waited: float
    peak: float


def make_rows(name: str, batch_size: int, caches: list, turns: list):
    """Yield the rows of the table for one recipe, from the results of `measure_all`."""
    script = median(rate for turn in turns for rate in turn["script"])
    for cache in caches:
        pairs = [turn[cache] for turn in turns]
        compute, loop = (median(rate for pair in pairs for rate in getattr(pair, key)) for key in ("compute", "loop"))
        ratio = median(rate / other for pair in pairs for rate, other in zip(pair.loop, pair.compute))
        waited, peak = median(pair.waited for pair in pairs), max(pair.peak for pair in pairs)
        yield (
            f"| {name} | {batch_size} | {cache} | {compute:,.0f} | {loop:,.0f} | {ratio:.1%} | {waited:.1%} "
            f"| {peak:,.0f} | {script:,.0f} | {loop / script:.2f} |"
        )


def create(recipe):
    """Build the recipe's network. MXNet, which this imports, then uses all cores."""
    use_all_cores()
    import symbols

    return symbols.create(**recipe.network)


def time_pair(recipe, cache: str, steps: int) -> Pair:
    """The loop and pure compute by turns within one process, `BURSTS` of each: neighbours on the machine slow both."""
    network = create(recipe)
    import mxnet as mx

    from agedge.training.distributed.kvstore import open_kvstore

    recipe.data.cache, folder, contexts = cache, Path(recipe.run.dir), [mx.cpu()]
    (folder / CACHE).mkdir(parents=True)
    kvstore = open_kvstore("device", contexts)
    task = AgeGenderTask(network, recipe, folder, kvstore, contexts)
    job = open_training(task, network, recipe, contexts, kvstore, resume=False)
    job.files.saver.every = float("inf")
    feed, pair = Feed(job.task), Pair([], [], 0.0, 0.0)
    same = [array.copy() for array in next(feed).split(contexts)[0]]
    for burst in range(2 * BURSTS):
        if burst % 2:
            time_loop(job, feed, WARM)  # batches that lay ready when it was begun
            feed.waited = 0.0
            pair.loop.append(time_loop(job, feed, steps))
            pair = pair._replace(waited=pair.waited + feed.waited / (steps * recipe.train.batch_size / pair.loop[-1]))
        else:
            time_compute(job, same, WARM)
            pair.compute.append(time_compute(job, same, steps))
    job.files.metrics_log.close()
    return pair._replace(waited=pair.waited / BURSTS, peak=read_status("VmHWM"))


class Feed:
    """The batches of a training, one epoch after the other; `waited`: the seconds that somebody stood waiting."""

    def __init__(self, task):
        self.task, self.waited, self.batches = task, 0.0, self._all()

    def _all(self):
        for epoch in itertools.count(1):
            with self.task.batches(epoch, 0) as batches:
                before = 0.0
                for batch in batches:
                    self.waited += batches.waited - before
                    before = batches.waited
                    yield batch

    def __next__(self):
        return next(self.batches)


def time_loop(job: Training, feed: Feed, steps: int) -> float:
    """Faces a second of the training loop."""
    import mxnet as mx

    log_every = job.recipe.train.log_every
    job.state.sums = None
    check, pending = DivergenceCheck(job.task, job.kvstore, job.folder, job.state), PendingSteps()
    bar = ProgressBar(1, 1, 1, shown=False)
    bar.start_epoch(1, 0, steps, job.state.step)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        if step % log_every == 1:
            seed_everything(0, step)
        train_step(job, next(feed), check, pending)
        bar.step()
        if step % log_every == 0:
            stopped = check_progress(job, check, stop=False)
            bar.show(job.task.describe(job.task.metrics(check.sums)), job.state.step)
            save_if_due(job, stopped)
    mx.nd.waitall()
    return steps * job.batch_size / (time.perf_counter() - started)


def time_compute(job: Training, batch: list, steps: int) -> float:
    """Faces a second on a batch that never changes: what a step of the loop computes, and nothing that waits."""
    import mxnet as mx
    from mxnet import autograd

    optimizer = job.recipe.optimizer
    started = time.perf_counter()
    for step in range(steps):
        job.trainer.set_learning_rate(job.learning_rate(step))
        with autograd.record():
            loss, _ = job.task.objective(*batch)
        loss.backward()
        if optimizer.clip:
            clip_gradients(job.gradients, optimizer.clip * job.batch_size)
        job.trainer.update(job.batch_size)
        if job.ema:
            job.ema.step(job.recipe.train.ema)
    mx.nd.waitall()
    return steps * job.batch_size / (time.perf_counter() - started)


def time_script(recipe) -> float:
    """Faces a second of the usual script, with a thread a core and MXNet's own settings else."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count_cores()))
    import symbols
    from benchmarks.plain_training import time_plain

    arguments = symbols.create(**recipe.network).arguments
    return time_plain(Path(recipe.data.train), arguments, recipe.train.batch_size, recipe.augment)


def hold_memory(recipe, cache: str) -> list:
    """Megabytes that the process holds after each of ten epochs, validation included."""
    network, held = create(recipe), []
    import mxnet as mx

    class Weighed(AgeGenderTask):
        def validate(self):
            measured = super().validate()
            held.append(read_status("VmRSS"))
            return measured

    recipe.train.epochs, recipe.train.patience, recipe.train.max_steps = MEMORY_EPOCHS, 0, 0
    recipe.data.cache = cache
    train(Weighed, network, recipe, [mx.cpu()], progress=False)
    return held


def say_memory(name: str, held: list) -> str:
    """The last epoch against the second: the first still builds things."""
    text = ", ".join(f"{megabytes:,.0f}" for megabytes in held)
    return f"{name}: {text} MB after each epoch; the last {held[-1] / held[1] - 1:+.1%} against the second"


def read_status(key: str) -> float:
    """Megabytes of this process: VmRSS, those it holds, or VmHWM, the most that it has held. Unlike `getrusage`, which
    begins with what the parent held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024 / 1e6


if __name__ == "__main__":
    run_command(main)

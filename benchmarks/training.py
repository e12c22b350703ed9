"""Training's speed and memory: python -m benchmarks.training [--write docs/training.md] [KEY=VALUE ...]

Faces a second of the training loop, by where it has its faces from, against pure compute (the same network, loss and
optimizer on one batch that never changes) and against the usual MXNet script on the same file. Every measurement has a
process of its own; they take turns, and ratios are medians of those within a turn. Nothing else should be running.

--memory instead: what a process holds after each of ten epochs.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import harmonic_mean, mean, median
from typing import List, Optional

import cv2
import numpy as np
import typer

from agedge.cli import run_door
from agedge.errors import AgedgeError, UsageError
from agedge.labels import exact
from agedge.records import RecordWriter
from agedge.training.ages import Ages, train
from agedge.training.averaging import WeightMean
from agedge.training.log import read_log
from agedge.training.loop import clip_gradients, run
from agedge.training.recipe import load_recipe
from agedge.training.schedule import learning_rate
from agedge.training.start import optimizer_options, start_weights
from agedge.training.threads import use_all_cores
from benchmarks.pages import replace_table

RECIPES = [Path("recipes", f"{name}.yaml") for name in ("mobilenet025", "mobilenet025_fast", "ssrnet")]
CACHES = ("memory", "disk", "native")
WARM = 3  # steps of pure compute before the clock runs; of the loop, it is the first epoch
EPOCHS = 3
MEMORY_EPOCHS = 10
HEADER = """| recipe | batch | faces from | compute, faces/s | loop, faces/s | loop/compute | waiting | peak, MB | usual script, faces/s | loop/script |
|---|---|---|---|---|---|---|---|---|---|"""  # noqa: E501


def main(
    overrides: Optional[List[str]] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Laid over every recipe."),
    recipe: List[Path] = typer.Option(RECIPES, help="Whose network is measured; may be given again."),
    cache: List[str] = typer.Option(list(CACHES), help="data.cache that is measured; may be given again."),
    steps: int = typer.Option(100, min=4, help="Steps an epoch."),
    repeats: int = typer.Option(3, min=1, help="Turns; in each everything is measured once."),
    memory: bool = typer.Option(False, "--memory", help="Measure what ten epochs do to the memory instead."),
    write: Optional[Path] = typer.Option(None, help="The Markdown file whose table is to be replaced."),
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
            settings.data.update(prepare(settings, steps, Path(folder)))
            name = path.stem
            if memory:
                print(say_memory(name, in_process(hold_memory, settings, cache[0])))
                continue
            turns = [take_turn(settings, cache, steps, folder, turn) for turn in range(repeats)]
        for row in make_rows(name, settings.train.batch_size, cache, turns):
            if not rows:
                print(HEADER)
            rows.append(row)
            print(row, flush=True)
    if write and rows:
        replace_table(write, "\n".join([HEADER, *rows]), "benchmarks.training")


def prepare(recipe, steps: int, folder: Path) -> dict:
    """Files to train and to validate on, as the recipe's `data` has them."""
    count, size = steps * recipe.train.batch_size, recipe.network.get("size", 112)
    train_on = write_faces(folder / "train.rec", count, size, seed=0)
    return {"train": str(train_on), "val": str(write_faces(folder / "val.rec", 8, size, seed=1)), "labels": "auto"}


def write_faces(path: Path, count: int, size: int, seed: int) -> Path:
    """Smooth noise with the size of a face's JPEG."""
    rng = np.random.default_rng(seed)
    with RecordWriter(path) as writer:
        for i in range(count):
            image = cv2.resize(rng.integers(0, 255, (size // 4, size // 4, 3), np.uint8), (size, size))
            writer.write(exact(i % 2, i % 90), cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return path


def in_process(measure, *arguments):
    """What a function returns in a process of its own. Raises `AgedgeError` where that ends."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(measure, *arguments).result()
        except BrokenProcessPool:
            raise AgedgeError(f"{measure.__name__}: its process ended (out of memory?)") from None


def take_turn(recipe, caches: list, steps: int, folder: str, turn: int) -> dict:
    """Everything measured once: {"compute": faces/s, "script": faces/s, cache: (faces/s, share waited, peak MB)}."""
    measured = {"compute": in_process(time_compute, recipe, steps)}
    for cache in caches:
        recipe.run.dir = f"{folder}/{cache}{turn}"
        measured[cache] = in_process(time_loop, recipe, cache)
    measured["script"] = in_process(time_script, recipe)
    return measured


def make_rows(name: str, batch_size: int, caches: list, turns: list):
    """The rows of the table for one recipe, by what `take_turn` gave."""
    compute, script = (median(turn[key] for turn in turns) for key in ("compute", "script"))
    for cache in caches:
        rate, waited, peak = (median(turn[cache][at] for turn in turns) for at in range(3))
        of_compute, of_script = (median(turn[cache][0] / turn[key] for turn in turns) for key in ("compute", "script"))
        yield (
            f"| {name} | {batch_size} | {cache} | {compute:,.0f} | {rate:,.0f} | {of_compute:.1%} | {waited:.1%} "
            f"| {peak:,.0f} | {script:,.0f} | {of_script:.2f} |"
        )


def create(recipe):
    """The recipe's network. MXNet, which this imports, then takes all cores."""
    use_all_cores()
    import symbols

    return symbols.create(**recipe.network)


def time_compute(recipe, steps: int) -> float:
    """Faces a second on a batch that never changes: all that a step of the loop computes, and nothing that waits."""
    network = create(recipe)
    import mxnet as mx
    from mxnet import autograd, gluon

    from agedge.training.objective import Objective

    batch_size, size = recipe.train.batch_size, network.size
    start_weights(network, recipe, [mx.cpu()], size, None, resume=True)  # resumed: nothing pretrained is loaded
    objective = Objective(network, recipe.train.mixup > 0)
    objective.hybridize(static_alloc=True, static_shape=True)
    parameters = objective.collect_params()
    trainer = gluon.Trainer(parameters, recipe.optimizer.name, optimizer_options(recipe.optimizer), kvstore=None)
    gradients = [[parameter.grad()] for parameter in parameters.values() if parameter.grad_req != "null"]
    rate, ema = learning_rate(recipe.optimizer, steps), recipe.train.ema and WeightMean(network)
    ages = mx.nd.random.randint(1, 90, (batch_size, 1)).astype("float32")
    batch = [mx.nd.random.uniform(0, 255, (batch_size, 3, size, size)), mx.nd.concat(ages > 45, ages, ages, dim=1)]
    batch += [mx.nd.ones((batch_size, 1)) * 0.7] if recipe.train.mixup else []
    sums = 0
    for step in range(-WARM, steps):
        if step == 0:
            mx.nd.waitall()
            started = time.perf_counter()
        trainer.set_learning_rate(rate(max(step, 0)))
        with autograd.record():
            loss, tallies = objective(*batch)
        loss.backward()
        if recipe.optimizer.clip:
            clip_gradients(gradients, recipe.optimizer.clip * batch_size)
        trainer.update(batch_size)
        if ema:
            ema.step(recipe.train.ema)
        sums = sums + tallies
    mx.nd.waitall()
    return steps * batch_size / (time.perf_counter() - started)


def time_loop(recipe, cache: str) -> tuple:
    """(faces/s, share of the time that it waits for faces, megabytes at most) of the epochs after the first, from the
    first batch that is asked for to the last step; validation is not counted."""
    network = create(recipe)
    import mxnet as mx

    recipe.train.update(epochs=EPOCHS, patience=0, max_steps=0)
    recipe.data.cache = cache
    rows = read_log(train(network, recipe, [mx.cpu()], progress=False) / "log.csv")[1:]
    rates = [row["images_per_s"] for row in rows]
    return harmonic_mean(rates), mean(row["waited"] for row in rows), read_status("VmHWM")


def time_script(recipe) -> float:
    """Faces a second of the usual script."""
    network = create(recipe)
    from benchmarks.plain_training import time_plain

    return time_plain(Path(recipe.data.train), network.arguments, recipe.train.batch_size, recipe.augment)


def hold_memory(recipe, cache: str) -> list:
    """Megabytes that the process holds after each of ten epochs, validation included."""
    network, held = create(recipe), []
    import mxnet as mx

    class Weighed(Ages):
        def validate(self):
            measured = super().validate()
            held.append(read_status("VmRSS"))
            return measured

    recipe.train.update(epochs=MEMORY_EPOCHS, patience=0, max_steps=0)
    recipe.data.cache = cache
    run(Weighed, network, recipe, [mx.cpu()], progress=False)
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
    run_door(main)

"""Images a second of the training loop against pure compute: python -m benchmarks.training [KEY=VALUE ...]

Pure compute is the same network, loss and optimizer on one batch that never changes. Both are timed in turns, in one
process, with nothing else running; the ratio says what reading, augmenting and bookkeeping cost.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import List, Optional

import cv2
import numpy as np
import typer

from agedge.cli import run_door
from agedge.labels import exact
from agedge.records import RecordWriter
from agedge.training.ages import train
from agedge.training.log import read_log
from agedge.training.recipe import load_recipe
from agedge.training.start import optimizer_options
from agedge.training.threads import use_all_cores


def write_faces(path: Path, count: int, size: int) -> Path:
    """Smooth noise with the size of a face's JPEG."""
    rng = np.random.default_rng(0)
    with RecordWriter(path) as writer:
        for i in range(count):
            image = cv2.resize(rng.integers(0, 255, (size // 4, size // 4, 3), np.uint8), (size, size))
            writer.write(exact(i % 2, i % 90), cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return path


def create(recipe):
    import symbols

    return symbols.create(**recipe.network)


def time_compute(recipe, steps: int) -> float:
    """Images a second on a batch that never changes."""
    import mxnet as mx
    from mxnet import autograd, gluon

    from agedge.training.objective import Objective

    network = create(recipe)
    network.initialize_for_training(mx.cpu())
    network.fuse(recipe.train.fuse)
    objective = Objective(network)
    objective.hybridize(static_alloc=True, static_shape=True)
    options = optimizer_options(recipe.optimizer)
    trainer = gluon.Trainer(network.collect_params(), recipe.optimizer.name, options)
    batch_size, size = recipe.train.batch_size, recipe.network.size
    data, labels = mx.nd.random.uniform(0, 255, (batch_size, 3, size, size)), mx.nd.ones((batch_size, 3)) * 30
    labels[:, 0] = 1
    for step in range(-3, steps):
        if step == 0:
            mx.nd.waitall()
            started = time.perf_counter()
        with autograd.record():
            loss, _ = objective(data, labels)
        loss.backward()
        trainer.step(batch_size)
    mx.nd.waitall()
    return steps * batch_size / (time.perf_counter() - started)


def time_loop(recipe) -> float:
    """Images a second of a second epoch, from reading the .rec to the last step; validation is not counted."""
    import mxnet as mx

    folder = train(create(recipe), recipe, [mx.cpu()], progress=False)
    return read_log(folder / "log.csv")[1]["images_per_s"]


def main(
    overrides: Optional[List[str]] = typer.Argument(None, metavar="[KEY=VALUE]..."),
    recipe: Path = typer.Option(Path("recipes/mobilenet025.yaml")),
    steps: int = typer.Option(60, help="Steps a measurement."),
    repeats: int = typer.Option(3),
):
    """A table of both stems of a recipe's network, medians of several turns."""
    use_all_cores()
    print(f"{'stem stride':>11} {'compute':>9} {'loop':>9} {'loop/compute':>13}")
    for stride in (1, 2):
        compute, loop = [], []
        with tempfile.TemporaryDirectory() as folder:
            settings = load_recipe(recipe, [*(overrides or ()), f"network.stem_stride={stride}", "train.epochs=2"])
            file = write_faces(Path(folder) / "a.rec", steps * settings.train.batch_size, settings.network.size)
            val = write_faces(Path(folder) / "val.rec", 8, settings.network.size)
            settings.data.update(train=str(file), val=str(val))
            for repeat in range(repeats):
                settings.run.dir = f"{folder}/run{repeat}"
                compute.append(time_compute(settings, steps))
                loop.append(time_loop(settings))
        ratio = median(b / a for a, b in zip(compute, loop))
        print(f"{stride:>11} {median(compute):>7.0f}/s {median(loop):>7.0f}/s {ratio:>12.1%}")


if __name__ == "__main__":
    run_door(main)

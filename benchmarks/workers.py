"""Two workers on this machine against one process on the same cores: python -m benchmarks.workers [KEY=VALUE ...]

Both train with `train.py` on the same faces and cores, and the batches of all workers together are as large as that of
the one process, so that both take the same steps. They take turns; the ratio is the median over the turns. Nothing else
should be running.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import harmonic_mean, median
from typing import List, Optional

import typer

from agedge.cli import run_command
from agedge.errors import AgedgeError, UsageError
from agedge.run_folder import LOG, read_log
from agedge.training.recipe import load_recipe
from benchmarks.training import EPOCHS, prepare

ROOT = Path(__file__).resolve().parents[1]


def main(
    overrides: Optional[List[str]] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Overrides for the recipe."),
    recipe: List[Path] = typer.Option(
        [Path("recipes/mobilenet025.yaml"), Path("recipes/mobilenet025_fast.yaml")], help="May be given again."
    ),
    workers: int = typer.Option(2, min=2, help="Workers."),
    steps: int = typer.Option(100, min=4, help="Steps an epoch."),
    repeats: int = typer.Option(3, min=1, help="Turns, in each of which both are measured once."),
):
    """Print faces a second of one process and of the workers together, for each recipe."""
    for path in recipe:
        with tempfile.TemporaryDirectory() as folder:
            settings = load_recipe(path, overrides or ())
            batch_size = settings.train.batch_size
            if batch_size % workers:
                raise UsageError(f"train.batch_size={batch_size}: must be a multiple of the {workers} workers")
            files = [f"data.{key}={value}" for key, value in prepare(settings, steps, Path(folder)).items()]
            command = ["--recipe", str(path), *(overrides or ()), *files, f"train.epochs={EPOCHS}", "train.patience=0"]
            pairs = [
                tuple(
                    time_run(Path(folder, f"run{count}-{turn}"), count, [*command, f"train.batch_size={size}"])
                    for count, size in ((1, batch_size), (workers, batch_size // workers))
                )
                for turn in range(repeats)
            ]
        one, many = (median(rates) for rates in zip(*pairs))
        ratio = median(b / a for a, b in pairs)
        print(
            f"{path.stem}: one process, batches of {batch_size}: {one:,.0f} faces/s; {workers} workers, of "
            f"{batch_size // workers} each: {many:,.0f} together, {ratio:.2f} of it",
            flush=True,
        )


def time_run(folder: Path, workers: int, arguments: list) -> float:
    """Return faces a second of all workers in the epochs after the first. Raises `AgedgeError` where the run fails."""
    # Without OMP_NUM_THREADS one process uses all cores, and workers share them.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    launch = ["--launch", str(workers)] if workers > 1 else []
    command = [sys.executable, "train.py", *launch, "--quiet", *arguments, f"run.dir={folder}"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise AgedgeError(f"train.py ended with {ended.returncode}: {(ended.stderr.strip().splitlines() or [''])[-1]}")
    return harmonic_mean(row["images_per_s"] for row in read_log(folder / LOG)[1:])


if __name__ == "__main__":
    run_command(main)

"""Train, resume or fine-tune a network: python train.py --recipe recipes/mobilenet025.yaml [key=value ...]"""

import functools
import json
import logging
import re
import sys
from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import describe, run_command, say
from agedge.errors import AgedgeError, UsageError
from agedge.shipped import find_shipped
from agedge.training.distributed.cluster import KINDS, check_environment, serve
from agedge.training.distributed.kvstore import ending_with_others, is_chief
from agedge.training.distributed.launch import launch as launch_workers
from agedge.training.distributed.launch import without_flags
from agedge.training.distributed.threads import use_all_cores
from agedge.training.flags import find_contexts, flags_to_overrides
from agedge.training.recipe import load_recipe, refuse_keys
from agedge.training.sweep import run_sweep

log = logging.getLogger("train")


def main(
    overrides: Optional[List[str]] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Such as optimizer.lr=0.001"),
    recipe: Optional[Path] = typer.Option(None, help="A YAML file of recipes/."),
    test: bool = typer.Option(False, "--test", help="Only measure the run in run.dir, on data.test or data.val."),
    fin: bool = typer.Option(False, "--fin", help="Fine-tune to other classes: frozen backbone, new age classes."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in run.dir, from its last checkpoint."),
    gpus: str = typer.Option("", help="GPUs to train on, such as 0,1; none: the CPU."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bar."),
    data_dir: Optional[Path] = typer.Option(None, help="Folder of train.rec, val.rec (and test.rec), or of folds."),
    split: Optional[int] = typer.Option(None, help="Which split of the folds in --data-dir; from 0."),
    labels: str = typer.Option("", help="data.labels: gender,age or age,gender for files of older tools."),
    prefix: str = typer.Option("", help="Where the run goes: run.dir."),
    network: str = typer.Option("", help="network.name, such as mobilenet025; or mobilenet, with --multiplier."),
    multiplier: Optional[float] = typer.Option(None, help="With --network mobilenet: 0.25, 0.5 or 1.0."),
    per_batch_size: Optional[int] = typer.Option(None, help="Faces a device and step."),
    lr: Optional[float] = typer.Option(None, help="optimizer.lr"),
    lr_steps: str = typer.Option("", help="Steps at which the rate falls to a tenth, such as 40000,70000."),
    ckpt: Optional[int] = typer.Option(None, help="Taken as existing scripts give it; last and best are always kept."),
    pretrained: str = typer.Option("", help="PREFIX,EPOCH, or a run or model folder, to start from."),
    max_steps: Optional[int] = typer.Option(None, help="train.max_steps"),
    end_epoch: Optional[int] = typer.Option(None, help="train.epochs"),
    keep: Optional[int] = typer.Option(None, help="run.keep: how many of the last checkpoints to keep."),
    kvstore: str = typer.Option("", help="train.kvstore: device, local; dist_sync for machines (docs/scale.md)."),
    launch: Optional[int] = typer.Option(None, metavar="N", help="Train as N workers on this machine."),
    sweep: Optional[List[str]] = typer.Option(
        None, metavar="KEY=VALUE,..", help="Train with each of these values, or KEY=LOW..HIGH; may be given again."
    ),
    trials: int = typer.Option(0, help="How many runs of a --sweep with a range."),
):
    """Train, resume or fine-tune a network. The folder of the run then holds its model and what was measured of it."""
    given = flags_to_overrides(
        data_dir=data_dir,
        prefix=prefix,
        network=network,
        multiplier=multiplier,
        per_batch_size=per_batch_size,
        lr=lr,
        lr_steps=lr_steps,
        pretrained=pretrained,
        max_steps=max_steps,
        end_epoch=end_epoch,
        gpus=gpus,
        labels=labels,
        split=split,
    )
    given += [
        f"{key}={value}" for key, value in (("run.keep", keep), ("train.kvstore", kvstore)) if value not in (None, "")
    ]
    recipe = Path(find_shipped(recipe)) if recipe else None
    settings = load_recipe(recipe, [*given, *(overrides or ())], "" if split is None else f"-split{split}")
    program = [sys.executable, sys.argv[0]]
    if sweep:
        if test:
            raise UsageError("--sweep: trains; --test measures one run")
        words = [word for word in without_flags(sys.argv[1:], ("--sweep", "--trials")) if word != "--resume"]
        folder = f"run.dir={json.dumps(settings.run.dir)}"  # with --split it depends on more than the overrides
        raise typer.Exit(run_sweep(program, words, sweep, trials, recipe, [*given, *(overrides or ()), folder]))
    if trials:
        raise UsageError("--trials: only with --sweep")
    if launch is not None and test:
        raise UsageError("--launch: trains; --test measures a run in one process")
    if launch is not None:
        words = without_flags(sys.argv[1:], ("--launch", "--kvstore", "--gpus", "train.kvstore"))
        kind = kvstore or (settings.train.kvstore if settings.train.kvstore in KINDS else KINDS[0])
        raise typer.Exit(launch_workers(program, words, launch, kind, gpus))
    if check_environment(settings.train.kvstore) != "worker":
        serve()
    if ckpt is not None:
        log.info("--ckpt: last.ckpt and best.ckpt are kept whatever it says")
    use_all_cores()
    import symbols

    try:
        built = symbols.create(**settings.network)
    except (TypeError, ValueError) as error:
        # Python names the function that does not take an argument, the registry the key that is wrong.
        said = re.sub(r"^\S+\(\)", str(settings.network.name), str(error))
        raise UsageError(said if said.startswith("network: ") else f"network: {said}") from error

    if settings.network.name in symbols.detectors():
        if settings.train.kvstore in KINDS:
            raise UsageError(f"--kvstore {settings.train.kvstore}: a detector trains in one process")
        if test or fin:
            raise UsageError(f"--{'test' if test else 'fin'}: for networks of ages and genders, not for a detector")
        from agedge.training.tasks.detection import train_detector as train
        from agedge.training.tasks.finalize_detection import finish_detector as finish
    else:
        from agedge.training.tasks import age_gender
        from agedge.training.tasks.finalize_age_gender import evaluate_run, finish

        refuse_keys(settings, ["scenes"], "ages and genders")
        train = functools.partial(age_gender.train, create=symbols.create)
    if test:
        say(*evaluate_run(built, settings, Path(settings.run.dir)).split("\n"))
        return
    if fin:
        if not settings.pretrained:
            raise UsageError("--fin: say what to fine-tune: --pretrained PREFIX,EPOCH, or a run or model folder")
        settings.optimizer.freeze = [*settings.optimizer.freeze, *built.backbone]
        settings.fresh = [*settings.fresh, *built.classes]
    folder = train(built, settings, find_contexts(gpus), resume, progress=not quiet)
    if not is_chief():  # the first worker finishes the model
        return
    try:
        say(*finish(symbols.create(**settings.network), settings, folder).split("\n"))
    except OSError as error:
        reason = f"trained, but the model was not finished: {describe(error)}"
        raise AgedgeError(f"{folder}: {reason}; the same command with --resume does that") from error


if __name__ == "__main__":
    with ending_with_others():
        run_command(main)

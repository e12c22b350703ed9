"""Train, resume or fine-tune a network: python train.py --recipe recipes/mobilenet025.yaml [key=value ...]"""

import sys
from pathlib import Path

import typer

from agedge.cli import describe, run_command, say
from agedge.errors import AgedgeError
from agedge.training.commands.flags import find_contexts
from agedge.training.commands.options import TrainOptions, with_options
from agedge.training.commands.sweep import run_sweep
from agedge.training.distributed.kvstore import ending_with_others, is_chief
from agedge.training.distributed.launch import launch
from agedge.training.distributed.roles import serve_unless_worker
from agedge.training.distributed.threads import use_all_cores
from agedge.training.tasks.choose import choose_task, create_network

PROGRAM = [sys.executable, __file__]


@with_options
def main(options: TrainOptions) -> None:
    """Train, resume or fine-tune a network. The run's folder then holds the finished model and its metrics."""
    options.check()
    recipe, overrides = options.load()
    if options.sweep:
        arguments = options.trial_arguments(overrides)
        raise typer.Exit(run_sweep(PROGRAM, arguments, options.sweep, options.trials, options.recipe_file, overrides))
    if options.launch is not None:
        kind = options.worker_kvstore(recipe)
        raise typer.Exit(launch(PROGRAM, options.worker_arguments(overrides), options.launch, kind, options.gpus))

    serve_unless_worker(recipe.train.kvstore)
    use_all_cores()
    import symbols  # and MXNet, which reads the environment that both lines above set

    network = create_network(symbols.create, recipe)
    task = choose_task(recipe.network["name"] in symbols.detectors(), recipe, symbols.create)
    folder = Path(recipe.run.dir)
    if options.test:
        say(*task.evaluate(network, recipe, folder).split("\n"))
        return
    if options.fin:
        task.freeze_backbone(network, recipe)
    task.train(network, recipe, find_contexts(options.gpus), options.resume, progress=not options.quiet)
    if not is_chief():
        return
    try:
        say(*task.finish(symbols.create(**recipe.network), recipe, folder).split("\n"))
    except OSError as error:
        reason = f"trained, but the model was not finished: {describe(error)}"
        raise AgedgeError(f"{folder}: {reason}; the same command with --resume does that") from error


if __name__ == "__main__":
    with ending_with_others():
        run_command(main)

"""The command line of train.py, and the command lines of the processes that it starts."""

import pytest

from agedge.errors import UsageError
from agedge.training.commands.options import TrainOptions
from agedge.training.recipe import as_plain, load_recipe


def test_a_child_process_gets_the_same_recipe():
    options = TrainOptions(
        overrides=["optimizer.lr=0.1"], network="mobilenet", multiplier=0.5, keep=3, prefix="runs/a b"
    )
    recipe, overrides = options.load()
    assert as_plain(load_recipe(None, overrides)) == as_plain(recipe)
    assert (recipe.network["name"], recipe.run.keep, recipe.run.dir) == ("mobilenet050", 3, "runs/a b")


def test_a_worker_gets_its_share_of_the_batch_and_chooses_no_kvstore():
    options = TrainOptions(overrides=["train.kvstore=local"], gpus="0,1,2,3", per_batch_size=8, launch=2, resume=True)
    recipe, overrides = options.load()
    assert recipe.train.batch_size == 16  # two GPUs a worker
    arguments = options.worker_arguments(overrides)
    assert "--resume" in arguments and "--launch" not in arguments and "train.kvstore=local" not in arguments
    assert options.worker_kvstore(recipe) == "dist_sync"


def test_a_trial_is_launched_as_the_sweep_was_and_resumes_by_itself():
    options = TrainOptions(sweep=["optimizer.lr=1,2"], launch=2, kvstore="dist_sync", fin=True, resume=True)
    arguments = options.trial_arguments(options.load()[1])
    assert arguments[:5] == ["--fin", "--launch", "2", "--kvstore", "dist_sync"]
    assert "--resume" not in arguments and "--sweep" not in arguments


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"sweep": ["optimizer.lr=1,2"], "test": True}, "--sweep: trains"),
        ({"trials": 3}, "--trials: only with --sweep"),
        ({"launch": 2, "test": True}, "--launch: trains"),
    ],
)
def test_options_that_exclude_each_other(options, reason):
    with pytest.raises(UsageError, match=reason):
        TrainOptions(**options).check()

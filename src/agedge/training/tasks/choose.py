"""Choose the task of a network: age and gender, or face detection."""

import functools
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn

from agedge.errors import UsageError
from agedge.training.distributed.cluster import KINDS
from agedge.training.recipe import Recipe, refuse_keys


class TaskFunctions(NamedTuple):
    """The functions that train.py calls for a network.

    Attributes:
        train: function (network, recipe, contexts, resume, progress) that trains, and returns the run's folder.
        finish: function (network, recipe, folder) that writes the finished model, and returns its metrics as text.
        evaluate: function (network, recipe, folder) that evaluates the finished model again (--test), and returns
            its metrics as text.
        freeze_backbone: function (network, recipe) that changes the recipe for fine-tuning (--fin).
    """

    train: Callable[..., Path]
    finish: Callable[..., str]
    evaluate: Callable[..., str]
    freeze_backbone: Callable[[Any, Recipe], None]


def create_network(create: Callable[..., Any], recipe: Recipe) -> Any:
    """Return the network of a recipe. `create(**arguments)`: `symbols.create`. Raises `UsageError`."""
    try:
        return create(**recipe.network)
    except ValueError as error:
        text = str(error)
        raise UsageError(text if text.startswith("network: ") else f"network: {text}") from error


def choose_task(is_detector: bool, recipe: Recipe, create: Callable[..., Any]) -> TaskFunctions:
    """Return the functions that train and finish a network. `create(**arguments)`: `symbols.create`.

    Raises `UsageError` if the recipe has settings that do not apply to the network.
    """
    if is_detector:
        from agedge.training.tasks.detection import train_detector
        from agedge.training.tasks.finalize_detection import finish_detector

        if recipe.train.kvstore in KINDS:
            raise UsageError(f"--kvstore {recipe.train.kvstore}: a detector trains in one process")
        return TaskFunctions(
            train_detector, finish_detector, functools.partial(_refuse, "--test"), functools.partial(_refuse, "--fin")
        )

    from agedge.training.tasks.age_gender import train
    from agedge.training.tasks.finalize_age_gender import evaluate_run, finish

    refuse_keys(recipe, ["scenes"], "ages and genders")
    return TaskFunctions(functools.partial(train, create=create), finish, evaluate_run, freeze_backbone)


def freeze_backbone(network: Any, recipe: Recipe) -> None:
    """Change a recipe so that the backbone stays frozen and the class layers are initialised (--fin).

    Raises `UsageError` without `recipe.pretrained`.
    """
    if not recipe.pretrained:
        raise UsageError("--fin: needs --pretrained PREFIX,EPOCH, or --pretrained with a run or model folder")
    recipe.optimizer.freeze = [*recipe.optimizer.freeze, *network.backbone]
    recipe.fresh = [*recipe.fresh, *network.classes]


def _refuse(option: str, *_: Any) -> NoReturn:
    """Raise `UsageError` for an option that does not apply to a detector."""
    raise UsageError(f"{option}: is only for age and gender networks, not for a detector")

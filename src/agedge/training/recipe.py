"""A recipe: all settings of a training run, each with a default, a check and a help text.

`python -m agedge.training.show_recipe` prints them as a table.
"""

import copy
import dataclasses
import difflib
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Union

from easydict import EasyDict

from agedge.errors import UsageError
from agedge.training.recipe_key import Key, key, list_keys
from agedge.training.recipe_yaml import DEEPEST, MOST_BYTES, load_yaml, read_recipe

Files = Union[str, List[str]]


class Section:
    """A section of a recipe. `section[name]` returns the value of a key."""

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclasses.dataclass
class DataSection(Section):
    """The data of a run, and how they are read."""

    train: Files = key("", "FILE.rec or a list of them; for a detector files of annotated faces", "files")
    val: Files = key("", "files for validation after every epoch; they determine the best epoch", "files")
    test: Files = key("", "files for the test of the finished model, which writes test.json", "files")
    labels: str = key("auto", "order of the labels in files of older tools: gender,age or age,gender")
    cache: str = key(
        "auto",
        "memory keeps decoded faces; disk decodes them again every epoch; native is MXNet's reader; "
        "auto is memory if they fit",
        choices=("auto", "memory", "disk", "native"),
    )
    threads: int = key(
        1, "threads that decode faces (unless they are in memory), or processes that create scenes", at_least=1
    )
    balance: float = key(
        0.0,
        "how far ages are balanced: 1 samples every age equally often, 0 as often as in the data",
        at_least=0,
        at_most=1,
    )


@dataclasses.dataclass
class ScenesSection(Section):
    """The training images of a detector. `data.train` and `data.val` are then files of annotated faces."""

    size: int = key(320, "side of a scene, in pixels", at_least=64)
    an_epoch: int = key(4000, "scenes per epoch", at_least=1)
    backgrounds: str = key("", "folder of two or more photographs without a face, for composed scenes")
    photographs: Files = key(
        "", "label.txt, or a list of them: whole photographs from which scenes are cropped", "files"
    )
    composed: float = key(0.5, "share of composed scenes if photographs are given too", at_least=0, at_most=1)


@dataclasses.dataclass
class AugmentSection(Section):
    """Random transforms of the training faces, all off by default."""

    mirror: float = key(0.0, "probability that a face is mirrored", choices=(0, 0.5))
    rotate: float = key(0.0, "largest rotation to either side, in degrees", at_least=0, at_most=180)
    shear: float = key(0.0, "largest shear to either side, as the tangent of the angle", at_least=0, at_most=0.9)
    scale: float = key(0.0, "largest change of scale, up or down, as a share of the side", at_least=0, at_most=0.9)
    shift: float = key(0.0, "largest shift in x and y, as a share of the side", at_least=0, at_most=0.9)
    brightness: float = key(0.0, "largest relative change of brightness", at_least=0, at_most=0.9)
    contrast: float = key(0.0, "largest relative change of contrast", at_least=0, at_most=0.9)
    saturation: float = key(0.0, "largest relative change of saturation", at_least=0, at_most=0.9)
    noise: float = key(
        0.0,
        "standard deviation of the noise along the principal components of colour (Krizhevsky et al. 2012)",
        at_least=0,
        at_most=0.9,
    )
    blur: float = key(0.0, "share of the faces that are blurred", at_least=0, at_most=1)
    jpeg: float = key(0.0, "share of the faces that are compressed as a JPEG of low quality", at_least=0, at_most=1)
    cutout: float = key(
        0.0, "share of the faces with a hidden rectangle (DeVries and Taylor 2017)", at_least=0, at_most=1
    )
    grey: float = key(0.0, "share of the faces that are converted to grey", at_least=0, at_most=1)


@dataclasses.dataclass
class OptimizerSection(Section):
    """The optimizer, its learning rate, and which parameters it trains."""

    name: str = key("adam", "adam, sgd, or any other optimizer that MXNet registers")
    lr: float = key(0.003, "learning rate", at_least=0)
    schedule: str = key(
        "cosine",
        "learning-rate schedule; inverse is lr / (1 + decay * epoch)",
        choices=("cosine", "steps", "inverse"),
    )
    steps: List[float] = key([], "steps at which the schedule `steps` multiplies lr by `factor`", "numbers")
    factor: float = key(0.1, "see `steps`")
    decay: float = key(0.015, "see `schedule`", at_least=0)
    warmup: int = key(300, "steps in which the learning rate rises linearly to lr", at_least=0)
    wd: float = key(0.0001, "weight decay", at_least=0)
    momentum: float = key(0.9, "momentum of sgd")
    clip: float = key(0.0, "largest norm of the gradient of a batch's mean loss; 0: no limit", at_least=0)
    wd_on: str = key(
        "all",
        "parameters with weight decay; weights: all except those of BatchNorm, and biases",
        choices=("all", "weights"),
    )
    freeze: List[str] = key([], "patterns of parameters that do not train, such as body.*", "patterns")
    lr_of: Dict[str, float] = key(
        {}, "{pattern: learning rate} of parameters with a different rate", "rates", at_least=0
    )


@dataclasses.dataclass
class TrainSection(Section):
    """How long and how a network trains."""

    epochs: int = key(60, "epochs", at_least=1)
    batch_size: int = key(128, "images per step of a worker, over all of its devices", at_least=1)
    max_steps: int = key(0, "steps after which the run ends early; 0: no limit", at_least=0)
    patience: int = key(0, "epochs without improvement until the run ends (early stopping); 0: no limit", at_least=0)
    seed: int = key(0, "seed of all random numbers", at_least=0)
    mixup: float = key(
        0.0, "alpha of Beta(alpha, alpha), from which the shares of two mixed faces are drawn; 0: no mixup", at_least=0
    )
    ema: float = key(
        0.0,
        "decay of a moving average of the weights, which is validated and saved as the model, such as 0.999; 0: none",
        at_least=0,
        at_most=1,
    )
    swa: float = key(
        0.0, "share of the epochs, at the end, over which the weights are averaged; 0: none", at_least=0, at_most=1
    )
    log_every: int = key(
        20, "steps between two readings of the loss; checkpoints are saved only at these steps", at_least=1
    )
    fuse: bool = key(True, "whether BatchNorm and ReLU are fused into one operator, if every device is a CPU")
    kvstore: str = key(
        "device",
        "how gradients are summed; dist_sync: over several machines",
        choices=("local", "device", "dist_sync", "dist_device_sync"),
    )


@dataclasses.dataclass
class DistillSection(Section):
    """Distillation: training on the outputs of teacher networks."""

    teachers: List[str] = key([], "runs or model folders whose outputs are learnt in addition to the labels", "models")
    weight: float = key(1.0, "weight of the loss on the teachers' ages", at_least=0)
    gender: float = key(1.0, "weight of the loss on their P(male)", at_least=0)
    temperature: float = key(2.0, "temperature that softens both distributions", above=0)
    hints: float = key(0.0, "weight of the loss on their features", at_least=0)


@dataclasses.dataclass
class RunSection(Section):
    """Where the run is saved."""

    dir: str = key("", "folder of the run; by default runs/NAME of the recipe; --split K appends -splitK")
    keep: int = key(2, "how many of the last checkpoints are kept, in addition to the best", at_least=1)
    save_every: int = key(300, "seconds between two checkpoints; one is always saved after each epoch", at_least=0)


@dataclasses.dataclass
class Recipe(Section):
    """All keys. `network` holds the arguments of the network's builder, which `symbols.create` checks."""

    network: EasyDict = dataclasses.field(default_factory=lambda: EasyDict(name="mobilenet025"))
    pretrained: str = key("", "initial weights: PREFIX,EPOCH, FILE.params, or a run or model folder")
    fresh: List[str] = key(
        [], "patterns of parameters that are not loaded from `pretrained`, such as age.*", "patterns"
    )
    data: DataSection = dataclasses.field(default_factory=DataSection)
    scenes: ScenesSection = dataclasses.field(default_factory=ScenesSection)
    augment: AugmentSection = dataclasses.field(default_factory=AugmentSection)
    optimizer: OptimizerSection = dataclasses.field(default_factory=OptimizerSection)
    train: TrainSection = dataclasses.field(default_factory=TrainSection)
    distill: DistillSection = dataclasses.field(default_factory=DistillSection)
    run: RunSection = dataclasses.field(default_factory=RunSection)


OPEN_SECTIONS = ("network", "optimizer.lr_of")  # they accept any key


def as_plain(value: Any) -> Any:
    """Convert a recipe, a section or a value to dicts and lists for YAML and JSON."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: as_plain(inner) for name, inner in value.items()}
    return [as_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


DEFAULTS: dict = as_plain(Recipe())
SECTIONS = {name: type(value) for name, value in vars(Recipe()).items() if dataclasses.is_dataclass(value)}


def collect_keys() -> Dict[str, Key]:
    """Return {"section.key": its checks} for all keys except the network's arguments, in the order of the recipe."""
    keys = list_keys(Recipe)
    for name, section in SECTIONS.items():
        keys.update({f"{name}.{inner}": one for inner, one in list_keys(section).items()})
    return keys


def load_recipe(path: Optional[Union[str, Path]], overrides: Iterable[str] = (), suffix: str = "") -> Recipe:
    """Load a YAML file, apply the `key.of.section=value` strings, and fill in the defaults.

    `suffix` is added to run.dir, unless an override sets that. Raises `AgedgeError` if the file cannot be read,
    `UsageError` for an invalid value, and for an unknown key, with the most similar known one.
    """
    values = copy.deepcopy(DEFAULTS)
    merge_values(values, read_recipe(Path(path)) if path else {}, str(path))
    folder, values["run"]["dir"] = values["run"]["dir"], ""
    for override in overrides:
        merge_values(values, parse_override(override), f"'{override}'")
    keys = collect_keys()
    keys["run.dir"].check("network.name", values["network"]["name"])
    name = Path(path).stem if path else values["network"]["name"]
    if not values["run"]["dir"]:
        keys["run.dir"].check("run.dir", folder)
        values["run"]["dir"] = (folder or str(Path("runs") / name)) + suffix
    for name, one in keys.items():
        one.check(name, find_value(values, name))
    sections = {name: section(**values[name]) for name, section in SECTIONS.items()}
    return Recipe(**{**values, **sections, "network": EasyDict(values["network"])})


def find_value(values: dict, name: str) -> Any:
    """Return the value of a key such as "optimizer.lr". Raises `KeyError` if there is none."""
    value: Any = values
    for part in name.split("."):
        if not isinstance(value, dict):
            raise KeyError(name)
        value = value[part]
    return value


def parse_override(text: str) -> dict:
    """Return {"optimizer": {"lr": 0.001}} for "optimizer.lr=1e-3"; the value is YAML. Raises `UsageError`."""
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"'{text}': an override must be key=value, such as optimizer.lr=0.001")
    if name.count(".") > DEEPEST or len(text) > MOST_BYTES:
        raise UsageError(f"'{text[:40]}..': nested too deeply, or too long")
    try:
        nested = load_yaml(value)
    except ValueError as error:
        raise UsageError(f"'{text[:80]}': '{value[:80]}' is not YAML: {error}") from None
    for part in reversed(name.split(".")):
        nested = {part: nested}
    return nested


def merge_values(values: dict, given: dict, source: str, section: str = "") -> None:
    """Overwrite values of a recipe with those in `given`, in place. Raises `UsageError`, which names the `source`."""
    for own, value in given.items():
        name = f"{section}.{own}" if section else own
        if not isinstance(own, str):
            raise UsageError(f"{source}: the key '{name}' must be a text")
        is_open = bool(section) and section.startswith(OPEN_SECTIONS)
        if own not in values and not is_open:
            nearest = difflib.get_close_matches(str(own), values, 1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(values)}"
            raise UsageError(f"{source}: unknown key '{name}'; {hint}")
        if isinstance(values.get(own), dict) and isinstance(value, dict):
            merge_values(values[own], value, source, name)
        elif isinstance(values.get(own), dict) and not is_open:
            raise UsageError(f"{source}: '{name}' is a section, and must be a mapping of keys")
        else:
            check_keys(value, source, name)
            values[own] = value


def check_keys(value: Any, source: str, name: str) -> None:
    """Raise `UsageError` if a mapping within a value has a key that is not a text."""
    if isinstance(value, dict):
        for own, inner in value.items():
            if not isinstance(own, str):
                raise UsageError(f"{source}: the key '{name}.{own}' must be a text")
            check_keys(inner, source, f"{name}.{own}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_keys(inner, source, name)


def refuse_keys(recipe: Recipe, names: Sequence[str], task: str) -> None:
    """Raise `UsageError` if a recipe sets a section or key that has no effect on networks of a task."""
    given = as_plain(recipe)
    for name in collect_keys():
        if name.startswith(tuple(f"{one}." for one in names)) or name in names:
            value, default = find_value(given, name), find_value(DEFAULTS, name)
            if value != default and (value or default):
                raise UsageError(f"{name}={value}: has no effect on a network that finds {task}")

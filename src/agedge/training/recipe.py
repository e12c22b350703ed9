"""A recipe: all that a training run depends on. Defaults in one place; a key that is not among them is an error."""

import copy
import difflib
import re
from pathlib import Path

import yaml
from easydict import EasyDict

from agedge.errors import AgedgeError, UsageError, choices
from agedge.training.data.augment import NO_AUGMENTATION, check_augmentation

DEFAULTS = {
    # whatever else the network's builder takes, such as size and age_head: symbols.create answers for those
    "network": {"name": "mobilenet025"},
    "pretrained": "",  # PREFIX,EPOCH, FILE.params, or a run or model folder, to start from
    "fresh": [],  # patterns of parameters that do not come from there, such as age.*
    "data": {
        "train": "",  # FILE.rec or a list of them
        "val": "",  # FILE.rec or a list of them: measured after every epoch, and chooses the best
        "test": "",  # FILE.rec or a list of them, if any: measured once, by the finished model, into test.json
        "labels": "auto",  # gender,age or age,gender for files of older tools
        "cache": "auto",  # memory, disk (decoded anew every epoch) or native (MXNet's reader); auto: memory if it fits
        "threads": 1,  # that decode, where the faces are not in memory
        "balance": 0.0,  # 1: every age is seen equally often; 0: as often as the data has it
    },
    "scenes": {  # what a detector is trained on; data.train and data.val are then files of annotated faces
        "size": 320,  # pixels of a side
        "an_epoch": 4000,  # scenes
        "backgrounds": "",  # folder of two or more photographs without a face, for composed scenes
        "photographs": "",  # label.txt, or a list of them: whole photographs, of which scenes are pieces
        "composed": 0.5,  # share of composed scenes where there are photographs
    },
    "augment": NO_AUGMENTATION,
    "optimizer": {
        "name": "adam",  # or sgd, or any other that MXNet registers
        "lr": 0.003,
        "schedule": "cosine",  # or steps, or inverse: lr / (1 + decay * epoch)
        "steps": [],  # steps: where lr is multiplied by `factor`
        "factor": 0.1,
        "decay": 0.015,  # inverse
        "warmup": 300,  # steps of linear rise to lr
        "wd": 0.0001,
        "momentum": 0.9,  # sgd
        "clip": 0.0,  # the gradient's largest norm, of the mean over a batch; 0: any
        "wd_on": "all",  # or weights: no weight decay of BatchNorms and biases
        "freeze": [],  # patterns of parameters that do not train, such as body.*
        "lr_of": {},  # {pattern: its own learning rate}
    },
    "train": {
        "epochs": 60,
        "batch_size": 128,  # of a worker, over all of its devices
        "max_steps": 0,  # ends the run early; 0: never
        "patience": 0,  # ends it after so many epochs without a better one; 0: never
        "seed": 0,
        "mixup": 0.0,  # alpha of Beta(alpha, alpha), of which two faces' shares in a picture are drawn; 0: no mixing
        "ema": 0.0,  # the model is a running mean of the weights: a step keeps this share of it, such as 0.999; 0: none
        "swa": 0.0,  # share of the epochs, the last ones, whose weights are averaged in the end; 0: none
        "log_every": 20,  # steps between two looks at the loss; a checkpoint is of the last of them
        "fuse": True,  # fused BatchNorm-ReLU where every device is a CPU
        "kvstore": "device",  # or local; several machines: dist_sync
    },
    "distill": {  # learning what teachers say of the faces, besides the labels
        "teachers": [],  # runs or model folders; of several the mean is taught
        "weight": 1.0,  # of the teachers' ages in the loss
        "gender": 1.0,  # of their P(male)
        "temperature": 2.0,  # that softens both distributions
        "hints": 0.0,  # weight of the teachers' features
    },
    "run": {
        "dir": "",  # by default runs/ and the recipe's name; -splitK is added where --split is given
        "keep": 2,  # of the last checkpoints, besides the best
        "save_every": 300,  # seconds between two checkpoints; there is one an epoch in any case
    },
}

OPEN_SECTIONS = ("network", "optimizer.lr_of")
PATTERNS = ("fresh", "optimizer.freeze")
FILES = ("data.", "scenes.photographs")  # of which a list may be given
SCHEDULES = ("cosine", "steps", "inverse")
CHOICES = (
    ("optimizer", "schedule", SCHEDULES),
    ("optimizer", "wd_on", ("all", "weights")),
    ("data", "cache", ("auto", "memory", "disk", "native")),
    ("train", "kvstore", ("local", "device", "dist_sync", "dist_device_sync")),
)
SHARES = (("scenes", "composed"), ("data", "balance"), ("train", "swa"), ("train", "ema"))
AT_LEAST = (
    ("data", "threads", 1),
    ("scenes", "size", 64),
    ("scenes", "an_epoch", 1),
    ("train", "epochs", 1),
    ("train", "batch_size", 1),
    ("train", "log_every", 1),
    ("train", "max_steps", 0),
    ("train", "patience", 0),
    ("train", "seed", 0),
    ("optimizer", "lr", 0),
    ("optimizer", "decay", 0),
    ("optimizer", "warmup", 0),
    ("optimizer", "clip", 0),
    ("optimizer", "wd", 0),
    ("train", "mixup", 0),
    ("distill", "weight", 0),
    ("distill", "gender", 0),
    ("distill", "hints", 0),
    ("run", "keep", 1),
    ("run", "save_every", 0),
)


LARGEST = 1_000_000  # bytes of a recipe; those of recipes/ have up to 3,000
MOST = 2**53  # the largest number: beyond, float64 does not hold whole numbers
MOST_NODES = 20_000  # values in a recipe, those that an alias repeats counted again
DEEPEST = 20  # sections in sections


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.1, and 1e-3 is a number, which it takes for a text. A key that is given twice, an alias that leads to very
    many values, and deep nesting are errors."""

    def compose_node(self, parent, index):
        self.depth = getattr(self, "depth", 0) + 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(None, None, "nested too deeply", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self):
        node = super().get_single_node()
        if node is not None:
            count_nodes(node, {}, set())
        return node

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return node


def count_nodes(node, counted: dict, above: set) -> int:
    """Return how many values a YAML node is, aliases followed. Raises `yaml.MarkedYAMLError` where it holds itself, is
    nested too deeply, or is too many."""
    if node in above or len(above) > DEEPEST:
        what = "a value holds itself" if node in above else "nested too deeply"
        raise yaml.MarkedYAMLError(None, None, what, node.start_mark)
    if node not in counted:
        inner = [] if isinstance(node, yaml.ScalarNode) else node.value
        inner = [one for pair in inner for one in (pair if isinstance(pair, tuple) else (pair,))]
        counted[node] = 1 + sum(count_nodes(one, counted, above | {node}) for one in inner)
    if counted[node] > MOST_NODES:
        raise yaml.MarkedYAMLError(None, None, f"more than {MOST_NODES:,} values", node.start_mark)
    return counted[node]


RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_recipe(path, overrides=(), suffix: str = "") -> EasyDict:
    """The recipe of a YAML file with `key.of.section=value` strings laid over it, all defaults filled in.

    `suffix` is added to run.dir, unless an override gives that. Raises `UsageError` that names an unknown key and the
    nearest known one.
    """
    recipe = copy.deepcopy(DEFAULTS)
    given = {}
    if path:
        given = read_recipe(Path(path))
    lay_over(recipe, given, str(path))
    folder, recipe["run"]["dir"] = recipe["run"]["dir"], ""
    for override in overrides:
        lay_over(recipe, parse_override(override), f"'{override}'")
    check_type("network.name", recipe["network"]["name"], "")
    name = Path(path).stem if path else recipe["network"]["name"]
    if not recipe["run"]["dir"]:
        check_type("run.dir", folder, "")
        recipe["run"]["dir"] = (folder or str(Path("runs") / name)) + suffix
    check_values(recipe)
    return EasyDict(recipe)


def read_recipe(path: Path) -> dict:
    """Return what a YAML file says. Raises `AgedgeError`, with the line where it is known, on what is not a recipe."""
    try:
        if path.is_dir():
            raise AgedgeError(f"{path}: is a folder, not a recipe")
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise AgedgeError(f"{path}: larger than {LARGEST:,} bytes: not a recipe")
        given = load_yaml(content.decode("utf-8-sig"))
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such recipe") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AgedgeError(f"{path}: not YAML: line {line} is not UTF-8") from None
    except ValueError as error:
        raise AgedgeError(f"{path}: not YAML: {error}") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise AgedgeError(f"{path}: a recipe must be a mapping of sections")
    return given


def load_yaml(text: str):
    """Return what a YAML text says. Raises `ValueError`, with the line."""
    try:
        return yaml.load(text, RecipeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ValueError(f"line {line}: the character #x{error.character:04x} is not allowed") from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # A tag such as !!bool before what is none has PyYAML fail in its own ways.
        raise ValueError(f"a value is not of its tag's type ({type(error).__name__})") from None


def parse_override(text: str) -> dict:
    """{"optimizer": {"lr": 0.001}} from "optimizer.lr=1e-3"; values are YAML."""
    key, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"'{text}': write an override as key=value, such as optimizer.lr=0.001")
    if key.count(".") > DEEPEST or len(text) > LARGEST:
        raise UsageError(f"'{text[:40]}..': nested too deeply, or too long")
    try:
        value = load_yaml(value)
    except ValueError as error:
        raise UsageError(f"'{text[:80]}': '{value[:80]}' is not YAML: {error}") from None
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def lay_over(recipe: dict, given: dict, source: str, section: str = "") -> None:
    """Replace the values of a recipe, in place."""
    for key, value in given.items():
        name = f"{section}.{key}" if section else key
        if not isinstance(key, str):
            raise UsageError(f"{source}: the key '{name}' must be a text")
        is_open = section.startswith(OPEN_SECTIONS) and section
        if key not in recipe and not is_open:
            nearest = difflib.get_close_matches(str(key), recipe, 1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(recipe)}"
            raise UsageError(f"{source}: unknown key '{name}'; {hint}")
        if isinstance(recipe.get(key), dict) and isinstance(value, dict):
            lay_over(recipe[key], value, source, name)
        elif isinstance(recipe.get(key), dict) and not is_open:
            raise UsageError(f"{source}: '{name}' is a section of keys, not a value")
        else:
            check_keys(value, source, name)
            recipe[key] = value


def check_keys(value, source: str, name: str) -> None:
    """Raise `UsageError` where a mapping within a value has a key that is not a text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UsageError(f"{source}: the key '{name}.{key}' must be a text")
            check_keys(inner, source, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_keys(inner, source, name)


def check_values(recipe: dict) -> None:
    """Raises `UsageError` on values that no run can have."""
    for section, defaults in DEFAULTS.items():
        if isinstance(defaults, dict) and section not in OPEN_SECTIONS:
            for key, default in defaults.items():
                check_type(f"{section}.{key}", recipe[section][key], default)
    for key in ("pretrained", "fresh"):
        check_type(key, recipe[key], DEFAULTS[key])
    for pattern, rate in recipe["optimizer"]["lr_of"].items():
        check_type(f"optimizer.lr_of.{pattern}", rate, 0.0)
        if not rate >= 0:
            raise UsageError(f"optimizer.lr_of.{pattern}={rate}: a number of at least 0 is wanted")
    for section, key, least in AT_LEAST:
        if not recipe[section][key] >= least:
            raise UsageError(f"{section}.{key}={recipe[section][key]}: a number of at least {least} is wanted")
    for section, key in SHARES:
        if not 0 <= recipe[section][key] <= 1:
            raise UsageError(f"{section}.{key}={recipe[section][key]}: a share from 0 to 1 is wanted")
    if not recipe["distill"]["temperature"] > 0:
        raise UsageError(f"distill.temperature={recipe['distill']['temperature']}: a number above 0 is wanted")
    for section, key, known in CHOICES:
        if recipe[section][key] not in known:
            raise choices(f"{section}.{key}", recipe[section][key], known)
    check_augmentation(recipe["augment"])


def refuse_keys(recipe: dict, names, task: str) -> None:
    """Raises `UsageError` where a recipe sets one of the sections or keys that do nothing for networks of that task."""
    for name in names:
        given, default = as_plain(recipe), DEFAULTS
        for part in name.split("."):
            given, default = given[part], default[part]
        if isinstance(default, dict):
            refuse_keys(recipe, [f"{name}.{key}" for key in default], task)
        elif given != as_plain(default) and (given or default):
            raise UsageError(f"{name}={given}: does nothing for a network that finds {task}")


def check_type(name: str, value, default) -> None:
    """Raises `UsageError` where a value is not of its default's kind; where a file is named, a list of them may be."""
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST
        wanted = "a whole number"
    elif isinstance(default, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST
        wanted = "a number"
    elif name in PATTERNS:
        fits = isinstance(value, (list, tuple)) and all(isinstance(pattern, str) for pattern in value)
        wanted = "a list of patterns of parameters' names, such as ['body.*'],"
    elif name == "distill.teachers":
        fits = isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)
        wanted = "a list of runs or model folders, such as [runs/large],"
    elif isinstance(default, dict):
        fits, wanted = isinstance(value, dict), "a mapping"
    elif isinstance(default, list):
        fits = isinstance(value, (list, tuple)) and all(isinstance(step, (int, float)) for step in value)
        wanted = "a list of numbers, such as [40000, 70000],"
    else:
        names = value if isinstance(value, (list, tuple)) and name.startswith(FILES) else [value]
        fits, wanted = all(isinstance(text, str) for text in names), "a text"
    if not fits:
        raise UsageError(f"{name}={value}: {wanted} is wanted")


def as_plain(recipe) -> dict:
    """A recipe as the dicts and lists that YAML and JSON write."""
    if isinstance(recipe, dict):
        return {key: as_plain(value) for key, value in recipe.items()}
    return [as_plain(value) for value in recipe] if isinstance(recipe, (list, tuple)) else recipe

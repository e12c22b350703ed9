"""Recipes, overrides, the table of keys, and the flags of existing scripts."""

import re
from pathlib import Path

import pytest

import symbols
from agedge.cli import run_command
from agedge.errors import AgedgeError, UsageError
from agedge.training import show_recipe
from agedge.training.commands.flags import find_contexts, flags_to_overrides
from agedge.training.recipe import as_plain, collect_keys, find_value, load_recipe
from tests.paths import ROOT

RECIPES = sorted(ROOT.glob("recipes/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_its_network_can_be_built(path):
    recipe = load_recipe(path)
    network = symbols.create(**recipe.network)
    assert recipe.network.name in symbols.detectors() or network.size == recipe.network.size
    assert recipe.run.dir == f"runs/{path.stem}"
    header = path.read_text().partition("network:")[0]
    assert header.startswith("#") and "python train.py" in header, "the header holds the command"
    assert any(word in header for word in ("MAE", "ccuracy", "rained here", "ecall")), (
        "and the result, or that there is none"
    )


def test_overrides_are_laid_over_the_file(tmp_path):
    (tmp_path / "r.yaml").write_text("optimizer: {lr: 0.1}\ntrain: {epochs: 3}\n")
    overrides = ["optimizer.lr=1e-3", "data.train=[a.rec, b.rec]", "network.age_head={name: regression, weight: 0.3}"]
    recipe = load_recipe(tmp_path / "r.yaml", overrides)
    assert (recipe.optimizer.lr, recipe.train.epochs, recipe.train.batch_size) == (0.001, 3, 128)
    assert recipe.data.train == ["a.rec", "b.rec"] and recipe.network.age_head.weight == 0.3
    assert recipe.run.dir == "runs/r"


def test_one_option_of_a_head_can_be_overridden(tmp_path):
    (tmp_path / "r.yaml").write_text("network: {age_head: {name: distribution, sigma: 2.0}}")
    head = load_recipe(tmp_path / "r.yaml", ["network.age_head.sigma=3"]).network.age_head
    assert head == {"name": "distribution", "sigma": 3}


@pytest.mark.parametrize(
    "override, message",
    [
        ("optimizer.lrate=1", "unknown key 'optimizer.lrate'; did you mean 'lr'"),
        ("optimiser.lr=1", "did you mean 'optimizer'"),
        ("train.epochs=0", "train.epochs=0: must be a number of at least 1"),
        ("train.epochs=many", "train.epochs=many: must be a whole number"),
        ("optimizer.schedule=linear", "choose one of cosine, steps"),
        ("optimizer.decay=-1", "optimizer.decay=-1: must be a number of at least 0"),
        ("optimizer.lr_of={body.0: -0.1}", "optimizer.lr_of.body.0=-0.1: must be a number of at least 0"),
        ("optimizer.lr_of={3: 0.1}", "'optimizer.lr_of.3' must be a text"),
        ("network={1: 2}", "'network.1' must be a text"),
        ("augment.mirror=0.3", "augment.mirror=0.3: must be 0 or 0.5"),
        ("augment.rotate=-5", "augment.rotate=-5: must be a number from 0 to 180"),
        ("optimizer=adam", "'optimizer' is a section"),
        ("resume", "an override must be key=value"),
        ("data.train=[a.rec", "is not YAML"),
        ("train.batch_size=12.5", "train.batch_size=12.5: must be a whole number"),
        ("train.log_every=0", "train.log_every=0: must be a number of at least 1"),
        ("train.seed=abc", "train.seed=abc: must be a whole number"),
        ("train.fuse=7", "train.fuse=7: must be true or false"),
        ("optimizer.wd=abc", "optimizer.wd=abc: must be a number"),
        ("optimizer.momentum=null", "optimizer.momentum=None: must be a number"),
        ("optimizer.steps=5", "optimizer.steps=5: must be a list of numbers"),
        ("augment.rotate=abc", "augment.rotate=abc: must be a number"),
        ("augment.blur=1.5", "augment.blur=1.5: must be a number from 0 to 1"),
        ("augment.jpeg=-0.1", "augment.jpeg=-0.1: must be a number from 0 to 1"),
        ("augment.cutout=.nan", "augment.cutout=nan: must be a number"),
        ("distill.temperature=0", "distill.temperature=0: must be a number above 0"),
        ("data.train=5", "data.train=5: must be a text, or a list of texts"),
    ],
)
def test_a_wrong_key_or_value_is_one_clear_line(override, message):
    with pytest.raises(UsageError, match=message):
        load_recipe(None, [override])


def test_files_that_are_not_recipes(tmp_path):
    with pytest.raises(AgedgeError, match="none.yaml: no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    for text in ("a: [", "just a word"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(AgedgeError, match="bad.yaml: "):
            load_recipe(tmp_path / "bad.yaml")


def show(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        run_command(show_recipe.main, [str(one) for one in arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out or printed.err


def test_values_of_a_recipe_are_printed(tmp_path, capsys):
    (tmp_path / "net.yaml").write_text("optimizer: {lr: 3e-3}\ntrain: {epochs: 3}\n")
    keys = ["--get", "optimizer.lr", "--get", "train.epochs", "--get", "run.dir", "--get", "optimizer.steps"]
    assert show(capsys, "--recipe", tmp_path / "net.yaml", *keys, "train.epochs=4") == (0, "0.003\n4\nruns/net\n[]\n")
    assert show(capsys, "--get", "network.size", "--default", "112") == (0, "112\n")
    assert show(capsys, "--get", "network.size", "--default", "112", "network.size=64") == (0, "64\n")
    for key in ("network.size", "optimizer.lrate", "optimizer.lr.x"):
        assert show(capsys, "--get", key) == (2, f"error: --get {key}: the recipe does not have this key\n")


def test_the_table_in_the_docs_is_that_of_the_keys(tmp_path, capsys):
    """`python -m agedge.training.show_recipe --write docs/training.md` writes it."""
    page, copy = ROOT / "docs/training.md", tmp_path / "page.md"
    assert show_recipe.format_table() in page.read_text(encoding="utf-8")
    assert show(capsys) == (0, show_recipe.format_table() + "\n")
    copy.write_text(
        page.read_text(encoding="utf-8").replace("| `train.epochs` |", "| `train.eras` |"), encoding="utf-8"
    )
    assert show(capsys, "--write", copy)[0] == 0 and copy.read_bytes() == page.read_bytes()
    copy.write_text("a page")
    assert show(capsys, "--write", copy)[0] == 1


def test_every_key_is_spelt_in_full_where_it_is_used():
    """So that a search for `optimizer.clip` leads from the recipe to the code that uses it."""
    folder = ROOT / "src/agedge/training"
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py") if path != folder / "recipe.py")
    for name in collect_keys():
        section, _, key = name.rpartition(".")
        assert re.search(rf"\b{section}(\.{key}\b|\[\"{key}\"\])" if section else rf"recipe\.{key}\b", code), name


def test_every_default_passes_its_own_check():
    values = as_plain(load_recipe(None))
    for name, key in collect_keys().items():
        key.check(name, find_value(values, name))
        assert key.help and "|" not in key.help, name


def test_flags_of_existing_scripts():
    overrides = flags_to_overrides(
        data_dir=Path("d"),
        prefix="runs/x",
        network="mobilenet",
        multiplier=0.5,
        per_batch_size=64,
        lr=0.1,
        lr_steps="10,20",
        pretrained="old,7",
        max_steps=500,
        end_epoch=9,
        gpus="0,1",
        labels="age,gender",
    )
    recipe = load_recipe(None, overrides)
    assert recipe.network.name == "mobilenet050" and recipe.train.batch_size == 128
    assert (recipe.data.train, recipe.data.val, recipe.run.dir) == ("d/train.rec", "d/val.rec", "runs/x")
    assert (recipe.optimizer.schedule, recipe.optimizer.steps, recipe.optimizer.lr) == ("steps", [10, 20], 0.1)
    assert recipe.data.labels == "age,gender"
    assert (recipe.pretrained, recipe.train.max_steps, recipe.train.epochs) == ("old,7", 500, 9)
    assert flags_to_overrides() == []
    with pytest.raises(UsageError, match="must be one of 0.25, 0.5, 1.0"):
        flags_to_overrides(multiplier=0.3)


def test_devices():
    import mxnet as mx

    assert find_contexts("") == [mx.cpu()]
    with pytest.raises(UsageError, match="write numbers with commas"):
        find_contexts("all")
    if not mx.context.num_gpus():
        with pytest.raises(AgedgeError, match="MXNet finds 0 GPUs here, not number 0"):
            find_contexts("0")

"""Parse every command line of README.md and docs/, and run the cheap ones (val.py has tests of its own)."""

import importlib
import importlib.util
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import List, NamedTuple

import pytest
import typer

from agedge.cli import run_command
from agedge.training.recipe import load_recipe
from rec_tools.packing.split import SplitScheme
from rec_tools.readers import find_reader, parse_options
from tests.paths import ROOT
from tests.training.toy_runs import write_toys

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = r"(?:[A-Z_]+=\S+ )*(?:python [^`]+|sh [^`]+|make(?: [^`]*)?)"
PLACEHOLDERS = {"K": "0", "data.train=...": "data.train=FILE"}
EXAMPLES = ("DATASET", "years")  # data sets that no reader has; tests/test_contributing.py packs the second
SCRIPTS = {"test.py": "test", "train.py": "main", "evaluate.py": "evaluate", "val.py": "val"}
FUNCTIONS = {"benchmarks.chip_landmarks": "measure", "benchmarks.copies": "measure"}  # the others are called main


class Command(NamedTuple):
    """A command line: `program` and its arguments, and the variables that it sets."""

    environment: dict
    program: str
    arguments: List[str]


def list_commands() -> List[str]:
    """Return the command lines of all pages, each once, comments removed and continued lines joined."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        prose = []
        for number, part in enumerate(re.split(r"^ *```.*$", text, flags=re.MULTILINE)):
            if number % 2 == 0:
                prose.append(part)
                continue
            for line in part.splitlines():
                match = re.match(rf'\s*(?:\$ )?({COMMAND})$|.*"(python [^"]*)"', line)
                found += [group for group in match.groups() if group] if match else []
        found += [re.sub(r"\s+", " ", code) for code in re.findall(rf"`({COMMAND})`", "\n".join(prose))]
    return list(dict.fromkeys(shlex.join(shlex.split(line, comments=True)) for line in found))


def read_command(line: str) -> Command:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
    environment = {}
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    if words[0] in ("make", "sh"):
        return Command(environment, " ".join(words[: 1 + (words[0] == "sh")]), words[1 + (words[0] == "sh") :])
    is_module = words[1] == "-m"
    return Command(environment, words[1 + is_module], words[2 + is_module :])


def load_program(program: str):
    """Return what a program hands to `run_command`: a typer app or a function."""
    if program in SCRIPTS:
        spec = importlib.util.spec_from_file_location(f"script_{SCRIPTS[program]}", ROOT / program)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, SCRIPTS[program])
    if program in ("rec_tools", "deploy"):
        return importlib.import_module({"rec_tools": "rec_tools.cli", "deploy": "deploy.__main__"}[program]).app
    return getattr(importlib.import_module(program), FUNCTIONS.get(program, "main"))


def parse(program: str, arguments: List[str]) -> dict:
    """Return the parameters that click makes of the arguments. Raises its errors; runs nothing."""
    app = load_program(program)
    if not isinstance(app, typer.Typer):
        function, app = app, typer.Typer(add_completion=False)
        app.command()(function)
    command = typer.main.get_command(app)
    if hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, f"{program} has no command {name}"
        command = command.commands[name]
    return command.make_context(program, list(arguments)).params


COMMANDS = list_commands()


def test_commands_are_found():
    assert len(COMMANDS) > 60 and "python test.py" in COMMANDS and "make demo" in COMMANDS


@pytest.mark.parametrize("line", COMMANDS)
def test_it_parses(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    environment, program, arguments = read_command(line)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert all(target in targets for target in arguments)
    elif program.startswith("sh "):
        script = program.split()[1]
        variables = re.findall(r"\b([A-Z_]+)\b", "".join((ROOT / name).read_text() for name in ("train.sh", script)))
        assert all(name in variables for name in environment)
        load_recipe(ROOT / f"recipes/{environment.get('RECIPE', 'mobilenet025')}.yaml", arguments)
    else:
        parameters = parse(program, arguments)
        if program == "train.py":
            recipe = parameters["recipe"]
            recipe = None if recipe in (Path("R"), Path("...")) else recipe
            load_recipe(recipe, list(parameters["overrides"] or ()))
        elif program == "rec_tools" and arguments[0] == "pack" and parameters["dataset"] not in EXAMPLES:
            parse_options(find_reader(parameters["dataset"]), parameters["options"] or ())
        if parameters.get("split") and program == "rec_tools":
            SplitScheme.parse(parameters["split"], parameters.get("folds", ""), parameters.get("seed", 0))


RUN = [
    "python test.py",
    "python test.py photo.jpg --det 0",
    "python test.py photo.jpg --det 1",
    "python test.py photo.jpg --runtime ncnn",
    "python -m rec_tools inspect data/utk/train.rec --json out/train.json",
    "python evaluate.py --model models/mobilenet025 --data data/utk/val.rec",
]


@pytest.mark.parametrize("line", RUN)
def test_it_runs(line, tmp_path, monkeypatch):
    """On the sample photograph and on toy faces, under the names that the pages use."""
    import matplotlib

    assert line in COMMANDS
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"), "photo.jpg")
    os.makedirs("data/utk")
    for name, seed in (("train", 1), ("val", 2)):
        write_toys(Path(f"data/utk/{name}.rec"), 12, seed)
    run(line)


def run(line: str) -> None:
    _, program, arguments = read_command(line)
    with pytest.raises(SystemExit) as done:
        run_command(load_program(program), arguments)
    assert not done.value.code


@pytest.mark.parametrize("program", [*SCRIPTS, "rec_tools", "deploy"])
def test_help(program, capsys):
    run(f"python {'' if program in SCRIPTS else '-m '}{program} --help")
    assert "--help" in capsys.readouterr().out

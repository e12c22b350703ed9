"""The architecture, as far as a program can check it: imports, sizes of rooms and files, annotations.

A room is a folder without packages in it; a file beside packages (`agedge/errors.py`, `deploy/graph.py`) stands alone.
docs/design.md draws the rooms.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Set, Tuple

import pytest

from tests.paths import ROOT

FOLDERS = {"agedge": "src/agedge", "symbols": "symbols", "rec_tools": "rec_tools", "deploy": "deploy"}
# Imports between packages run one way: a package may import these, and itself.
MAY_IMPORT = {"agedge": (), "symbols": (), "rec_tools": ("agedge",), "deploy": ("agedge", "symbols")}
# Inside of agedge and rec_tools too: a room may import itself and what stands in the lines before. What is not named
# belongs to the first line of its package, the ground.
LEVELS = {
    "agedge": (
        ("agedge", "agedge.images", "agedge.results"),
        ("agedge.runtime",),
        ("agedge.faces",),
        ("agedge.evaluation",),
        ("agedge.training",),
        ("agedge.predict", "agedge.draw", "agedge.predict_files", "agedge.gpu"),
    ),
    "rec_tools": (
        ("rec_tools", "rec_tools.formats", "rec_tools.drawn"),
        ("rec_tools.packing",),
        ("rec_tools.records",),
        ("rec_tools.readers", "rec_tools.detection"),
        ("rec_tools.cli", "rec_tools.cli_records", "rec_tools.__main__"),
    ),
}
ANNOTATED = ("symbols", "src/agedge/training", "src/agedge/runtime", "src/agedge/faces")
MOST_FILES = 12  # of a room, its __init__.py included
MOST_LINES = 400  # of a file
LIBRARIES = ("mxnet", "numpy", "onnx", "ncnn", "cv2", "opencv", "inspect", "json", "typer", "scipy", "onnxruntime")
LATE = ("mxnet", "onnx", "onnxruntime", "ncnn", "matplotlib", "gluoncv", "tensorboardX")  # imported where they are used
SOURCES = [path for folder in FOLDERS.values() for path in sorted((ROOT / folder).rglob("*.py"))]
PROGRAMS = sorted(ROOT.glob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))


def to_module(path: Path) -> str:
    """Return the dotted name of a file of one of the packages."""
    package, folder = next(item for item in FOLDERS.items() if path.is_relative_to(ROOT / item[1]))
    parts = (package, *path.relative_to(ROOT / folder).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_room(folder: Path) -> bool:
    """Return whether a folder has no package in it."""
    return not any((child / "__init__.py").is_file() for child in folder.iterdir() if child.is_dir())


MODULES = {to_module(path): path for path in SOURCES}
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES + PROGRAMS}
ROOMS = sorted({path.parent for path in SOURCES if is_room(path.parent)})


def imports(tree: ast.Module) -> Iterator[Tuple[str, bool]]:
    """Yield the names of imported modules, and whether each import stands at the top of the file."""
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write the whole name of a module"
            for name in node.names:  # a module of a package, or a name of a module
                whole = f"{node.module}.{name.name}"
                yield whole if whole in MODULES else str(node.module), id(node) in top


def imports_between_modules() -> Dict[str, Set[str]]:
    """Return, for each module of the packages, those of them that it imports, wherever the import stands."""
    graph = {}
    for module, path in MODULES.items():
        graph[module] = {name for name, _ in imports(TREES[path]) if name in MODULES and name != module}
    return graph


def find_room(module: str) -> str:
    """Return the dotted name of a module's room; its own name where it stands beside sub-folders."""
    return to_module(MODULES[module].parent / "__init__.py") if is_room(MODULES[module].parent) else module


def find_circle(graph: Dict[str, Set[str]]) -> list:
    """Return a circle of a graph, as the names along it; [] where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_circle_of_files():
    assert not find_circle(imports_between_modules())


def test_no_circle_of_rooms():
    graph: Dict[str, Set[str]] = {}
    for module, imported in imports_between_modules().items():
        room = find_room(module)
        graph.setdefault(room, set()).update({find_room(name) for name in imported} - {room})
    assert not find_circle(graph)


def test_a_circle_is_found():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not find_circle({"a": {"b", "c"}, "b": {"c"}})


def find_level(module: str, levels: tuple) -> int:
    """Return the line of `levels` whose longest name holds a module."""
    names = {name: number for number, line in enumerate(levels) for name in line}
    holding = [name for name in names if module == name or module.startswith(f"{name}.")]
    return names[max(holding, key=len)]


@pytest.mark.parametrize("package", LEVELS)
def test_no_import_runs_upward(package):
    levels = LEVELS[package]
    upward = {
        f"{module} imports {name}"
        for module, imported in imports_between_modules().items()
        for name in imported
        if module.split(".")[0] == name.split(".")[0] == package
        and find_level(name, levels) > find_level(module, levels)
    }
    assert not upward


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_between_packages_run_one_way(package):
    strangers = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in SOURCES
        if path.is_relative_to(ROOT / FOLDERS[package])
        for module, _ in imports(TREES[path])
        if module.split(".")[0] in FOLDERS and module.split(".")[0] not in (package, *MAY_IMPORT[package])
    }
    assert not strangers


def test_a_predicting_machine_needs_only_the_library_it_uses():
    early = {
        f"{path.relative_to(ROOT)} imports {module} at its top"
        for path in SOURCES
        # their classes are blocks of Gluon; the loop imports them late
        if path.is_relative_to(ROOT / "src/agedge") and path.name not in ("objective.py", "loss.py")
        for module, at_top in imports(TREES[path])
        if at_top and module.split(".")[0] in LATE
    }
    assert not early


SMALL = sorted(
    {path.parent for path in SOURCES if path.parts[len(ROOT.parts)] == "rec_tools" or "training" in path.parts}
)


@pytest.mark.parametrize("folder", sorted({*ROOMS, *SMALL}), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    files = list(folder.glob("*.py"))
    assert len(files) <= MOST_FILES or folder in (ROOT / "rec_tools/readers", ROOT / "symbols/heads")  # one file each
    text = (folder / "__init__.py").read_text(encoding="utf-8").strip()
    if folder in SMALL:
        first = ast.get_docstring(ast.parse(text)).split("\n")[0]
        assert first.endswith("."), f"{folder}: say in one line of __init__.py what is inside"


@pytest.mark.parametrize("path", SOURCES + PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_answers_one_question(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert path.stem not in ("utils", "helpers", "common", "misc", *LIBRARIES)
    assert path.name == "__init__.py" and not text.strip() or ast.get_docstring(TREES[path]), "say what it is for"


def list_public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield the functions of a module and the methods of its classes, but those whose names begin with "_"."""
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef) and (not inner.name.startswith("_") or inner.name == "__init__"):
                yield inner


@pytest.mark.parametrize("folder", ANNOTATED)
def test_public_functions_are_annotated(folder):
    bare = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for function in list_public_functions(TREES[path]):
            arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            arguments += [one for one in (function.args.vararg, function.args.kwarg) if one]
            missing = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
            if missing or (function.returns is None and function.name != "__init__"):
                bare.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name} {' '.join(missing)}")
    assert not bare


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "src/agedge/py.typed").is_file()


def test_every_file_parses_on_the_oldest_python():
    for path in SOURCES + PROGRAMS:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_what_trains_is_imported_before_mxnet():
    """MXNet reads the number of its threads when it is imported; `train.py` sets it before that, and after these."""
    folder = ROOT / "src/agedge/training"
    late = {"objective.py", "loss.py"}
    names = [to_module(path) for path in sorted(folder.rglob("*.py")) if path.name not in late]
    code = "; ".join([*(f"import {name}" for name in names), "import sys", "assert 'mxnet' not in sys.modules"])
    subprocess.run([sys.executable, "-c", code], check=True)

"""The rules of the house that a program can read: who imports whom, how long a file is, what a file is called."""

import ast
import subprocess
import sys

import pytest

from tests.paths import ROOT

ROOMS = ("agedge", "symbols", "rec_tools", "deploy")
# Imports run one way: a room may import these rooms, and itself.
MAY_IMPORT = {"agedge": (), "symbols": (), "rec_tools": ("agedge",), "deploy": ("agedge", "symbols")}
FOLDERS = {"agedge": "src/agedge", "symbols": "symbols", "rec_tools": "rec_tools", "deploy": "deploy"}
LIBRARIES = ("mxnet", "numpy", "onnx", "ncnn", "cv2", "opencv", "inspect", "json", "typer", "scipy", "onnxruntime")
LATE = ("mxnet", "onnx", "onnxruntime", "ncnn", "matplotlib", "gluoncv", "tensorboardX")  # imported where they are used
SOURCES = [path for room in FOLDERS.values() for path in sorted((ROOT / room).rglob("*.py"))]
SOURCES += sorted(ROOT.glob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))


def imports(tree: ast.AST):
    """Names of imported modules, with whether the import stands at the top of the file."""
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write the whole name of a module"
            yield node.module, id(node) in top


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    strangers = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / FOLDERS[room]).rglob("*.py")
        for module, _ in imports(ast.parse(path.read_text()))
        if module.split(".")[0] in ROOMS and module.split(".")[0] not in (room, *MAY_IMPORT[room])
    }
    assert not strangers


def test_a_predicting_machine_needs_only_the_library_it_uses():
    early = {
        f"{path.relative_to(ROOT)} imports {module} at its top"
        for path in (ROOT / "src/agedge").rglob("*.py")
        # their classes are blocks of Gluon; the loop imports them late
        if path.name not in ("objective.py", "distill_loss.py")
        for module, at_top in imports(ast.parse(path.read_text()))
        if at_top and module.split(".")[0] in LATE
    }
    assert not early


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_answers_one_question(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert path.stem not in ("utils", "helpers", "common", "misc", *LIBRARIES)
    assert path.name == "__init__.py" and not text.strip() or ast.get_docstring(ast.parse(text)), "say what it is for"


def test_every_file_parses_on_the_oldest_python():
    for path in SOURCES:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_what_trains_is_imported_before_mxnet():
    """MXNet reads the number of its threads when it is imported; `train.py` says it before that, and after these."""
    modules = ("loop", "ages", "detection", "finish", "flags", "recipe", "launch", "sweep", "store", "stream", "faces")
    code = "; ".join([*(f"import agedge.training.{name}" for name in modules), "import sys"])
    subprocess.run([sys.executable, "-c", f"{code}; assert 'mxnet' not in sys.modules"], check=True)

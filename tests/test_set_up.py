"""What make, train.sh and the GPU helper promise, as far as it can be tried without installing anything."""

import os
import subprocess
import sys

import pytest

from agedge.errors import AgedgeError
from agedge.gpu import SONAMES, link_libraries
from tests.paths import ROOT


def shell(*words, **environment):
    # A make above this test hands its own variables down.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "PYTHON")}
    environment = {**inherited, **environment}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_make_lists_its_targets():
    listed = shell("make", "help").stdout
    for target in ("all", "test", "test-all", "lint", "demo", "gpu", "help"):
        assert f"\n{target} " in f"\n{listed}"


def test_make_says_in_one_line_which_python_is_missing(tmp_path):
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "make", "sed", "touch", "test", "echo"):
        found = subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()
        if found:
            (tmp_path / "bin" / tool).symlink_to(found)
    done = shell("make", "all", f"VENV={tmp_path}/venv", PATH=str(tmp_path / "bin"))
    assert done.returncode != 0 and not (tmp_path / "venv").exists()
    assert done.stderr.splitlines()[0].startswith("make: Python 3.9, 3.10 or 3.11 (with venv) is needed")


def test_train_sh_without_data_says_how_to_get_it(tmp_path):
    done = shell("sh", "train.sh", DATA_DIR=str(tmp_path), PYTHON=sys.executable)
    assert done.returncode == 1 and f"{tmp_path}/imdb_crop/imdb.mat: missing" in done.stderr
    assert "IMDB-WIKI" in done.stderr and "DEMO=1" in done.stderr


def test_train_sh_with_an_unknown_recipe_lists_them():
    done = shell("sh", "train.sh", RECIPE="mobilnet", PYTHON=sys.executable)
    assert done.returncode == 2 and "recipes/mobilnet.yaml" in done.stderr and "mobilenet025" in done.stderr


def test_cuda_libraries_are_linked_beside_mxnet(tmp_path):
    package = tmp_path / "mxnet"
    package.mkdir()
    for name in SONAMES[1:]:
        library = tmp_path / "nvidia" / name.split(".")[0] / "lib" / name
        library.parent.mkdir(parents=True)
        library.write_text(name)
    with pytest.raises(AgedgeError, match=f"missing: {SONAMES[0]}; run make gpu"):
        link_libraries(package, tmp_path / "nvidia")
    library = tmp_path / "nvidia" / "cuda_runtime" / "lib" / SONAMES[0]
    library.parent.mkdir(parents=True)
    library.write_text(SONAMES[0])
    for _ in range(2):  # again is no fault
        assert len(link_libraries(package, tmp_path / "nvidia")) == len(SONAMES)
    assert all((package / name).read_text() == name for name in SONAMES)

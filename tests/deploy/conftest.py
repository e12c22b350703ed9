"""One small model with every operation, exported once for all tests of this folder."""

import shutil

import pytest

from tests.small_networks import save_small


@pytest.fixture(scope="session")
def exported_once(tmp_path_factory):
    from deploy.export import export_model

    folder = tmp_path_factory.mktemp("exported")
    save_small(folder / "model", terms="drawn noise")
    forms = export_model(folder / "model", ["onnx", "ncnn"], folder / "out")
    return folder, forms


@pytest.fixture
def exported(exported_once, tmp_path):
    """A copy that a test may change: `tmp_path/model` and `tmp_path/out`."""
    shutil.copytree(exported_once[0], tmp_path, dirs_exist_ok=True)
    return tmp_path

"""The detector in each runtime: the same faces, without MXNet where another runtime is chosen, or one clear error."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.faces.detection import create_detector
from agedge.faces.essh.card import read_card
from agedge.faces.essh.network import open_network
from deploy.detector import TOLERANCES
from tests.faces.essh.essh_checkpoints import write_random
from tests.paths import ROOT

FOLDER = ROOT / "ssh_model"
OTHERS = ("onnx", "ncnn", "ncnn-fp16")


def grace_hopper() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="module")
def photograph():
    return cv2.imread(str(grace_hopper()))


def run_network(folder, runtime: str, images: np.ndarray) -> list:
    network = open_network(read_card(folder), runtime)
    network.reserve(images.shape)[:] = images
    return network.run(images.shape)


@pytest.mark.parametrize("runtime", OTHERS)
@pytest.mark.parametrize("shape", [(1, 3, 160, 160), (2, 3, 64, 96)])
def test_an_exported_network_gives_the_maps_of_mxnet(runtime, shape):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    tolerance = TOLERANCES[runtime].most
    for found, expected in zip(run_network(FOLDER, runtime, images), run_network(FOLDER, "mxnet", images)):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("runtime", OTHERS)
def test_the_shipped_detector_finds_the_same_faces(photograph, runtime):
    images = [photograph, cv2.resize(photograph, (150, 180), interpolation=cv2.INTER_AREA)]
    expected = create_detector("essh", folder=FOLDER).detect_batch(images)
    detector = create_detector("essh", runtime, folder=FOLDER)
    pixels = 0.5 if runtime == "ncnn-fp16" else 0.01
    for found, same in zip(pickle.loads(pickle.dumps(detector)).detect_batch(images), expected):
        assert len(found) == len(same) == 1
        np.testing.assert_allclose(found.boxes, same.boxes, atol=pixels)
        np.testing.assert_allclose(found.landmarks, same.landmarks, atol=pixels)
        np.testing.assert_allclose(found.scores, same.scores, atol=TOLERANCES[runtime].most)


WITHOUT_MXNET = """
import sys, cv2
from agedge.faces.detection import create_detector
detector = create_detector("essh", runtime="onnx", folder=sys.argv[1])
print(len(detector.detect(cv2.imread(sys.argv[2]))), "mxnet" in sys.modules)
"""


def test_mxnet_is_not_imported_where_another_runtime_is_chosen():
    command = [sys.executable, "-c", WITHOUT_MXNET, str(FOLDER), str(grace_hopper())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1", "False"], done.stderr


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_folder_without_the_files_of_a_runtime_is_named_with_the_command_that_makes_them(tmp_path, runtime):
    write_random(tmp_path)
    with pytest.raises(AgedgeError) as caught:
        create_detector("essh", runtime=runtime, folder=tmp_path)
    command = f"python -m deploy export --model {tmp_path} --out {tmp_path}"
    assert str(caught.value) == f"{tmp_path}: no {runtime} files of the detector; `{command}` creates them"


def test_a_file_that_the_card_names_and_is_missing_is_the_same_error(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    (folder / "essh.onnx").unlink()
    with pytest.raises(AgedgeError, match="copy: no onnx files of the detector"):
        create_detector("essh", runtime="onnx", folder=folder)


def test_the_files_of_mxnet_are_not_needed_in_another_runtime(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    for name in read_card(folder).files["mxnet"].values():
        (folder / name).unlink()
    assert len(create_detector("essh", runtime="ncnn", folder=folder).detect(np.zeros((64, 64, 3), np.uint8))) == 0
    with pytest.raises(AgedgeError, match="essh-symbol.json: missing"):
        create_detector("essh", folder=folder)


def test_a_card_without_mxnet_files_is_an_error_only_in_mxnet(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    card = json.loads((folder / "card.json").read_text())
    del card["files"]["mxnet"]
    (folder / "card.json").write_text(json.dumps(card))
    create_detector("essh", runtime="onnx", folder=folder)
    with pytest.raises(AgedgeError, match="copy: no mxnet files of the detector"):
        create_detector("essh", folder=folder)


def test_a_damaged_exported_file_is_named_at_the_first_detection(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    content = bytearray((folder / "essh.onnx").read_bytes())
    content[-20] ^= 1
    (folder / "essh.onnx").write_bytes(content)
    detector = create_detector("essh", runtime="onnx", folder=folder)
    with pytest.raises(AgedgeError, match="essh.onnx: its SHA-256 is not the one in card.json"):
        detector.detect(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("kind", ["mtcnn", "essh"])
def test_an_unknown_runtime_is_answered_with_the_choices(kind):
    with pytest.raises(UsageError, match="runtime: unknown 'tflite'; choose one of mxnet, onnx, ncnn, ncnn-fp16"):
        create_detector(kind, runtime="tflite")

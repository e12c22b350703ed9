"""Threads that share a model or a predictor: each gets the prediction for its own image."""

import sys
import threading
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from agedge.faces.detection import create_detector
from agedge.predict import Predictor
from agedge.runtime import load_model
from agedge.runtime.model import RUNTIMES
from tests.paths import ROOT

MODEL = ROOT / "models/mobilenet025"
COUNT = 16  # threads, and images


@pytest.fixture(scope="module")
def images():
    return make_images()


def make_images() -> list:
    """One photograph at sizes and brightnesses that give each another age: (188, 160, 3) to (244, 216, 3)."""
    photograph = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    made = []
    for k in range(COUNT):
        image = cv2.resize(photograph, (160 + 8 * (k % 8), 188 + 8 * (k % 8)), interpolation=cv2.INTER_AREA)
        image = image if k % 2 else image[:, ::-1]
        made.append(cv2.convertScaleAbs(image, alpha=0.7 + 0.03 * k))
    return made


def run_at_once(predict, inputs: list, rounds: int) -> list:
    """Return the results of one thread for each input; all start together and repeat their input `rounds` times."""
    results, errors = [[] for _ in inputs], []
    start = threading.Barrier(len(inputs))

    def work(number: int):
        start.wait()
        try:
            for _ in range(rounds):
                results[number].append(predict(inputs[number]))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not errors and not any(thread.is_alive() for thread in threads)
    return results


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_share_a_model(images, runtime):
    faces = [cv2.resize(image, (112, 112))[None].repeat(1 + k % 3, axis=0) for k, image in enumerate(images)]
    model = load_model(MODEL, runtime)

    def predict(images) -> list:
        prediction = model.predict(images)
        return [*prediction.age.tolist(), *prediction.p_male.tolist()]

    expected = [predict(images) for images in faces]
    assert len({tuple(answer) for answer in expected}) == COUNT  # else an answer could be another's
    assert run_at_once(predict, faces, 2) == [[one] * 2 for one in expected]


@pytest.mark.parametrize("detector", ["mtcnn", "essh"])
def test_threads_share_a_predictor(images, detector):
    options = {"folder": ROOT / "ssh_model"} if detector == "essh" else {}
    shared = create_detector(detector, **options)
    for runtime in ("mxnet", "onnx", "ncnn") if detector == "essh" else ("mxnet",):
        predictor = Predictor(MODEL, shared, runtime)

        def predict(image, predictor=predictor) -> list:
            return [person.to_json() for person in predictor.predict(image)]

        some = images if runtime == "mxnet" else images[::2]
        expected = [predict(image) for image in some]
        assert all(expected)
        assert run_at_once(predict, some, 1) == [[one] for one in expected], runtime


def test_threads_load_models_of_their_own_at_once(images):
    """Two that bound an executor at the same time ended in "Cannot find attribute shape in the graph", and two that
    checked a symbol left `sys.stdout` a buffer that nobody reads."""
    faces = [cv2.resize(image, (112, 112))[None] for image in images[:8]]
    expected = [load_model(MODEL).predict(face).age.tolist() for face in faces]
    stdout = sys.stdout
    bare = f"{MODEL / 'mobilenet025'},0"
    results = run_at_once(lambda face: load_model(bare).predict(face).age.tolist(), faces, 2)
    assert results == [[one] * 2 for one in expected]
    assert sys.stdout is stdout


def test_one_batch_of_all_is_the_same_as_each_alone(images):
    """A large batch is cut into pieces, between which other threads take their turn."""
    model = load_model(MODEL)
    faces = np.stack([cv2.resize(image, (112, 112)) for image in images])
    inputs = [faces, faces[::-1], faces[4:7], faces[2:]]
    expected = [model.predict(images).age.tolist() for images in inputs]
    results = run_at_once(lambda images: model.predict(images).age.tolist(), inputs, 5)
    assert results == [[one] * 5 for one in expected]

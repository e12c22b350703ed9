"""Threads that share a model or a predictor: each answer is that of its own picture."""

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
COUNT = 16  # threads, and pictures


@pytest.fixture(scope="module")
def pictures():
    return make_pictures()


def make_pictures() -> list:
    """One photograph at sizes and brightnesses that give each another age: (188, 160, 3) to (244, 216, 3)."""
    photograph = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    made = []
    for k in range(COUNT):
        picture = cv2.resize(photograph, (160 + 8 * (k % 8), 188 + 8 * (k % 8)), interpolation=cv2.INTER_AREA)
        picture = picture if k % 2 else picture[:, ::-1]
        made.append(cv2.convertScaleAbs(picture, alpha=0.7 + 0.03 * k))
    return made


def ask_at_once(ask, questions: list, rounds: int) -> list:
    """The answers of one thread for each question, all of which start at the same time and repeat it `rounds` times."""
    answers, errors = [[] for _ in questions], []
    start = threading.Barrier(len(questions))

    def work(number: int):
        start.wait()
        try:
            for _ in range(rounds):
                answers[number].append(ask(questions[number]))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not errors and not any(thread.is_alive() for thread in threads)
    return answers


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_threads_share_a_model(pictures, runtime):
    faces = [cv2.resize(picture, (112, 112))[None].repeat(1 + k % 3, axis=0) for k, picture in enumerate(pictures)]
    model = load_model(MODEL, runtime)

    def ask(images) -> list:
        prediction = model.predict(images)
        return [*prediction.age.tolist(), *prediction.p_male.tolist()]

    expected = [ask(images) for images in faces]
    assert len({tuple(answer) for answer in expected}) == COUNT  # else an answer could be another's
    assert ask_at_once(ask, faces, 3) == [[answer] * 3 for answer in expected]


@pytest.mark.parametrize("detector", ["mtcnn", "essh"])
def test_threads_share_a_predictor(pictures, detector):
    options = {"folder": ROOT / "ssh_model"} if detector == "essh" else {}
    shared = create_detector(detector, **options)
    for runtime in ("mxnet", "onnx", "ncnn") if detector == "essh" else ("mxnet",):
        predictor = Predictor(MODEL, shared, runtime)

        def ask(picture, predictor=predictor) -> list:
            return [person.to_json() for person in predictor.predict(picture)]

        expected = [ask(picture) for picture in pictures]
        assert all(expected)
        assert ask_at_once(ask, pictures, 1) == [[answer] for answer in expected], runtime


def test_threads_load_models_of_their_own_at_once(pictures):
    """Two that bound an executor at the same time ended in "Cannot find attribute shape in the graph", and two that
    checked a symbol left `sys.stdout` a buffer that nobody reads."""
    faces = [cv2.resize(picture, (112, 112))[None] for picture in pictures[:8]]
    expected = [load_model(MODEL).predict(face).age.tolist() for face in faces]
    stdout = sys.stdout
    bare = f"{MODEL / 'mobilenet025'},0"
    answers = ask_at_once(lambda face: load_model(bare).predict(face).age.tolist(), faces, 2)
    assert answers == [[answer] * 2 for answer in expected]
    assert sys.stdout is stdout


def test_one_batch_of_all_is_the_same_as_each_alone(pictures):
    """A large batch is cut into pieces, between which other threads take their turn."""
    model = load_model(MODEL)
    faces = np.stack([cv2.resize(picture, (112, 112)) for picture in pictures])
    questions = [faces, faces[::-1], faces[4:7], faces[2:]]
    expected = [model.predict(images).age.tolist() for images in questions]
    answers = ask_at_once(lambda images: model.predict(images).age.tolist(), questions, 5)
    assert answers == [[answer] * 5 for answer in expected]

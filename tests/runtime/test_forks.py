"""Models and predictors in other processes, forked and spawned: the right prediction or one error, and never a hang."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.predict import Predictor
from agedge.runtime import load_model
from agedge.runtime.model import RUNTIMES
from tests.paths import ROOT

MODEL = ROOT / "models/mobilenet025"
FACES = np.random.RandomState(0).randint(0, 256, (3, 112, 112, 3), np.uint8)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# The parent's model is in use by a thread while it forks. The children end by themselves, which runs the destructors of
# what was copied: those of multiprocessing do not.
FORK = """
import os, sys, threading, time
import numpy as np
from agedge.runtime import load_model

folder, runtime = sys.argv[1:]
faces = np.random.RandomState(0).randint(0, 256, (9, 112, 112, 3), np.uint8)
model = load_model(folder, runtime, threads=4)
expected = model.predict(faces).age.tolist()
busy = True

def work():
    while busy:
        model.predict(faces)

thread = threading.Thread(target=work)
thread.start()
children = []
for own in (False, False, True):
    child = os.fork()
    if child == 0:
        answer = (load_model(folder, runtime, threads=4) if own else model).predict(faces).age.tolist()
        sys.exit(0 if answer == expected else 3)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
busy = False
thread.join()
"""


@needs_fork
@pytest.mark.parametrize("runtime", ["mxnet", "onnx", "ncnn"])
def test_a_forked_process_answers_as_its_parent(runtime):
    """With 4 threads: ncnn hung, and a child with a session of ONNX Runtime crashed or hung at its end."""
    assert run_script(FORK, MODEL, runtime) == "[0, 0, 0]"


DETECT = """
import os, sys
import numpy as np
from agedge.predict import Predictor

predictor = Predictor(sys.argv[1], "mtcnn")
predictor.model.predict(np.zeros((1, 112, 112, 3), np.uint8))  # MXNet runs, though no detector does
child = os.fork()
if child == 0:
    try:
        print(len(predictor.predict(np.zeros((100, 100, 3), np.uint8))))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    sys.exit()
os.waitpid(child, 0)
"""


@needs_fork
def test_a_detector_refuses_to_run_where_its_parent_ran_a_model():
    """With 4 threads it would wait for the parent's."""
    assert run_script(DETECT, MODEL).startswith("AgedgeError: MTCNN: not loaded: MXNet has run here before")


def run_script(script: str, *args) -> str:
    """What a script prints that runs with 4 OpenMP threads; no longer than a minute, in which it is killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    command = [sys.executable, "-c", script, *map(str, args)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            printed, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    assert process.returncode == 0, errors
    return printed.strip()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_pickled_model_answers_as_before(runtime):
    model = load_model(MODEL, runtime)
    again = pickle.loads(pickle.dumps(model))
    assert again.predict(FACES).age.tolist() == model.predict(FACES).age.tolist()
    assert again.predict(FACES).p_male.tolist() == model.predict(FACES).p_male.tolist()


def test_a_pickled_model_works_in_another_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    model = load_model("models/mobilenet025", "onnx")
    pickled = pickle.dumps(model)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickled).predict(FACES).age.tolist() == model.predict(FACES).age.tolist()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_pickled_model_whose_folder_is_gone_is_an_error(tmp_path, runtime):
    folder = shutil.copytree(MODEL, tmp_path / "model")
    model = load_model(folder, runtime)
    expected = model.predict(FACES).age.tolist()
    pickled = pickle.dumps(model)
    shutil.rmtree(folder)
    again = pickle.loads(pickled)  # an error here would end a pool's workers, one after the other
    with pytest.raises(AgedgeError, match=str(tmp_path)) as caught:
        again.predict(FACES)
    assert "\n" not in str(caught.value)
    assert model.predict(FACES).age.tolist() == expected  # this one is open


def predict(task) -> list:
    predictor, image = task
    return [person.to_json() for person in predictor.predict(image)]


def test_a_predictor_goes_to_a_pool_of_spawned_processes():
    from tests.runtime.test_threads import make_images

    images = make_images()[:3]
    predictor = Predictor(MODEL, "mtcnn", "onnx")
    expected = [predict((predictor, image)) for image in images]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(predict, [(predictor, image) for image in images], timeout=100)) == expected

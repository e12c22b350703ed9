"""Take the examples of CONTRIBUTING.md out of the page, run them, and use what they add."""

import re
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

import symbols
from agedge.predict import Predictor
from agedge.records import read_records
from agedge.runtime import load_model
from agedge.runtime import model as runtimes
from agedge.sources import read_image
from rec_tools import readers
from symbols import registry
from symbols.heads import AGE_HEADS
from tests.paths import ROOT
from tests.shipping import make_lively, ship

MODEL = ROOT / "models/mobilenet025"


@pytest.fixture
def execute(monkeypatch):
    """Run the code below a heading as the module that its first line names, and return it."""

    def execute(heading: str) -> types.ModuleType:
        page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
        (code,) = re.findall(rf"^## {heading}\n[^#]*?```python\n(.*?)```", page, re.MULTILINE | re.DOTALL)
        name = re.match(r"# (?:src/)?(\S+)\.py\n", code)[1].replace("/", ".")
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, name, "exec"), module.__dict__)
        return module

    before = [(registered, set(registered)) for registered in (registry._BUILDERS, AGE_HEADS, runtimes.RUNTIMES)]
    yield execute
    for registered, names in before:
        for name in set(registered) - names:
            del registered[name]


def take_a_step(network) -> None:
    """Train a step on random faces: the loss is a number, and the age head's weights change."""
    import mxnet as mx
    from mxnet import autograd, gluon, nd

    network.initialize_for_training(mx.cpu())
    data = nd.random.uniform(0, 255, (4, 3, network.size, network.size))
    labels = nd.array([[0, 20, 20], [1, 30, 39], [1, 70, 70], [-1, 5, 5]])
    trainer = gluon.Trainer(network.collect_params(), "sgd", {"learning_rate": 0.1})
    with autograd.record():
        loss = network.loss(nd, network(data), labels)
    loss.backward()
    before = network.age.dense.weight.data().copy()
    trainer.step(4)
    assert loss.shape == (4,) and np.isfinite(loss.asnumpy()).all()
    assert (network.age.dense.weight.data() - before).abs().max().asscalar() > 0


def test_a_network(execute, tmp_path):
    execute("Add a network")
    assert "tiny" in symbols.names()
    network = symbols.create("tiny", size=32)
    take_a_step(network)
    body = [p.data().size for name, p in network.collect_params().items() if "body_" in name]
    assert sum(body) == 1392
    assert set(ship(make_lively(network), tmp_path, ["onnx"])) == {"age", "p_male"}  # compares ONNX with MXNet


def test_an_age_head(execute):
    from mxnet import nd

    execute("Add an age head")
    network = symbols.create("mobilenet025", size=32, age_head="squared")
    take_a_step(network)
    age, p_male = network.decode(nd, (nd.array([[0.25], [1.5]]), nd.zeros((2, 2))))
    assert age.asnumpy().ravel().tolist() == [25, 100] and p_male.shape == (2, 1)
    known = network.age.loss(nd, nd.array([[0.25]] * 3), nd.array([[25], [30], [-1]]), nd.array([[25], [39], [-1]]))
    np.testing.assert_allclose(known.asnumpy(), [0, 0.05**2, 0], atol=1e-6)


def test_a_data_set_reader(execute, tmp_path, monkeypatch):
    from rec_tools.cli import app

    execute("Add a dataset reader")
    monkeypatch.setattr(readers, "DATASETS", (*readers.DATASETS, "years"))
    (tmp_path / "photos").mkdir()
    for name, grey in (("34_anna", 50), ("7_ben", 150), ("95_carl", 200), ("dora", 250)):
        cv2.imwrite(str(tmp_path / f"photos/{name}.jpg"), np.full((40, 40, 3), grey, np.uint8))
    arguments = ["--root", str(tmp_path / "photos"), "--out", str(tmp_path / "packed"), "oldest=90", "--workers", "0"]
    app(["pack", "years", *arguments], standalone_mode=False)
    (packed,) = (tmp_path / "packed").glob("*.rec")
    assert sorted(record.label[1] for record in read_records(packed)) == [7, 34]


def test_a_detector(execute):
    import matplotlib

    photo = read_image(str(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")))
    detector = execute("Add a detector").HaarDetector()
    assert len(detector.detect(np.zeros((64, 64, 3), np.uint8))) == 0
    (person,) = Predictor(str(MODEL), detector, orientation="upright").predict(photo)
    (by_mtcnn,) = Predictor(str(MODEL)).predict(photo)
    assert person.status == "ok" and person.gender == "female"
    assert np.abs(person.landmarks - by_mtcnn.landmarks).max() < 0.15 * (by_mtcnn.box[3] - by_mtcnn.box[1])


def test_a_runtime(execute):
    module = execute("Add a runtime")
    runtimes.RUNTIMES["opencv"] = module.__name__
    faces = np.random.RandomState(1).randint(0, 256, (3, 112, 112, 3)).astype(np.uint8)
    ours, theirs = (load_model(str(MODEL), runtime).raw_outputs(faces) for runtime in ("onnx", "opencv"))
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-3)

"""What lies in models/: small, whole, the same in every format, and as good as its card says."""

import tarfile

import numpy as np
import pytest

import symbols
from agedge.evaluation.evaluate import predict_records
from agedge.evaluation.metrics import measure
from agedge.runtime import load_card, load_model
from deploy.isolated import run_isolated
from deploy.probe_images import draw_probes
from tests.paths import ROOT, SHARED

MODELS = sorted(path.parent for path in (ROOT / "models").glob("*/card.json"))


@pytest.fixture(params=MODELS, ids=lambda path: path.name)
def folder(request):
    return request.param


def test_there_is_one():
    assert ROOT / "models/mobilenet025" in MODELS


def test_every_format_is_there_and_under_its_limit(folder):
    card = load_card(folder)
    assert set(card.files) == {"mxnet", "onnx", "ncnn", "ncnn-fp16"}
    for runtime, parts in card.files.items():
        size = sum(card.path(runtime, part).stat().st_size for part in parts)  # `path` verifies the checksums
        assert size < 1.2e6, runtime
    assert {path.name for path in folder.iterdir()} == {"card.json", *card.sha256}


def test_the_card_tells_what_it_takes(folder):
    card = load_card(folder)
    assert card.crop.size == card.input["size"] and card.input["channels"] == "RGB"
    assert "non-commercial" in card.terms and card.training["train"] and card.interval["level"] == 0.8
    assert card.error["n"] >= 1000 and {"age_mae", "bands", "gender_acc"} <= set(card.error)
    assert symbols.create(**card.network).size == card.input["size"]


def test_every_runtime_says_the_same(folder):
    faces = draw_probes(load_card(folder).input["size"])
    ours = load_model(folder).raw_outputs(faces)
    assert np.ptp(ours["age"]) > 1, "drawn probes that all look alike to it would prove nothing"
    for runtime, most in (("onnx", 1e-4), ("ncnn", 5e-4), ("ncnn-fp16", 0.1)):
        theirs = run_isolated(folder, runtime, faces)
        assert max(np.abs(theirs[name] - ours[name]).max() for name in ours) <= most, runtime


def test_it_can_be_trained_on(folder):
    import mxnet as mx

    from agedge.training.run.pretrained import load_pretrained

    network = symbols.create(**load_card(folder).network)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, network.size, network.size)))
    load_pretrained(network, str(folder), mx.cpu())
    faces = draw_probes(network.size)
    data = mx.nd.array(faces[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))
    age = network.decode(mx.nd, network(data))[0].asnumpy().ravel()
    np.testing.assert_allclose(age, load_model(folder).predict(faces).age, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the development faces are not on this machine")
def test_it_is_as_good_as_its_card_says(tmp_path):
    """Packs the development faces as the recipe says, and measures anew. All but some fifty of the validation faces are
    those of the card: the split of then did not know which images are nearly identical."""
    from rec_tools.packing.options import Preparation
    from rec_tools.packing.pack import pack
    from rec_tools.packing.split import SplitScheme
    from rec_tools.readers.utkface import SOURCE, TERMS, read

    with tarfile.open(SHARED / "data/utkface_dev.tar.gz") as archive:
        archive.extractall(tmp_path)
    rows = read(tmp_path / "UTKFace")
    pack(rows, tmp_path, SplitScheme.parse("train=0.9,val=0.1"), Preparation(), source=SOURCE, terms=TERMS)
    model = load_model(ROOT / "models/mobilenet025")
    answers = predict_records(model.predict, tmp_path / "val.rec", 112, crop=model.card.crop)
    measured = measure(answers.labels, answers.ages, answers.p_male)
    assert measured["n"] == pytest.approx(model.card.error["n"], abs=20)
    assert measured["age_mae"] == pytest.approx(model.card.error["age_mae"], abs=0.05)
    assert measured["gender_acc"] == pytest.approx(model.card.error["gender_acc"], abs=0.005)
    assert measured["age_mae"] <= 5.2 and measured["adults"]["age_mae"] <= 5.3
    assert measured["adults"]["gender_acc"] >= 0.955

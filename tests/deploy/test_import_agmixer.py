"""AGMixer's, FaRL's and CLIP's weights in our network: the numbers of plain NumPy, and others' weights refused."""

import numpy as np
import pytest
from mxnet import nd

import symbols
from agedge.errors import AgedgeError
from agedge.runtime import load_model
from deploy.importers.agmixer import RANGES, from_torch
from deploy.importers.convert import import_weights
from symbols.vit import scale_as_clip
from tests.deploy.torch_files import tensor, write_zip
from tests.plain_agmixer import TINY, draw_heads, draw_tower, run_agmixer, run_tower

CHECKPOINT = {"size": 32, "patch": 16, "width": 64, "layers": 2, "features": 24}


def draw_checkpoint(classes=58, width=16, depth=2):
    random = np.random.RandomState(6)
    heads = draw_heads(random, CHECKPOINT["features"], classes, width, depth)
    return {**draw_tower(random, "FeatureExtractor.", **CHECKPOINT), **heads}


def write_checkpoint(path, weights, key="model_state_dict"):
    """A file as the authors' trainer writes it."""
    content = {}
    for name, value in weights.items():
        strides = [int(np.prod(value.shape[axis + 1 :])) for axis in range(value.ndim)]
        content[name] = tensor(name, count=value.size, shape=value.shape, strides=tuple(strides))
    return write_zip(path, {"epoch": 4, key: content, "loss": 0.5}, weights)


def faces(count, size):
    return np.random.RandomState(7).randint(0, 256, (count, size, size, 3)).astype(np.uint8)


def fault_of(weights) -> str:
    with pytest.raises(AgedgeError) as caught:
        from_torch(weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_checkpoint_gives_the_ages_and_genders_of_plain_numpy(tmp_path):
    weights, images = draw_checkpoint(), faces(6, 32)
    written = import_weights(write_checkpoint(tmp_path / "best.pt", weights), "agmixer", tmp_path / "out")
    assert tmp_path / "out" / "card.json" in written
    model = load_model(tmp_path / "out")
    predicted = model.raw_outputs(images[..., ::-1])  # BGR, as OpenCV reads pictures
    age, p_male = run_agmixer(weights, images.transpose(0, 3, 1, 2), 15)
    assert age.std() > 0.1 and p_male.std() > 0.01
    np.testing.assert_allclose(predicted["age"][:, 0], age, atol=1e-3)
    np.testing.assert_allclose(predicted["p_male"][:, 0], p_male, atol=1e-4)
    network = model.card.network
    assert (network["age_min"], network["age_max"], network["mixer_width"], network["mixer_depth"]) == (15, 72, 16, 2)


@pytest.mark.parametrize("classes", RANGES)
def test_the_number_of_classes_tells_the_range_of_ages(classes):
    arguments = from_torch(draw_checkpoint(classes)).arguments
    assert arguments["age_max"] - arguments["age_min"] + 1 == classes


def test_a_number_of_classes_of_no_known_set_is_refused():
    assert "57 classes; known are 49, 58" in fault_of(draw_checkpoint(57))


@pytest.mark.parametrize("beside", ["text tower", "nothing"])
def test_the_body_of_farl_or_clip_is_imported_alone(beside, tmp_path):
    weights = draw_tower(np.random.RandomState(8), **TINY)
    text = {"token_embedding.weight": np.zeros((3, 4), np.float32), "logit_scale": np.zeros((1,), np.float32)}
    file = write_checkpoint(
        tmp_path / "FaRL.pth", {**weights, **(text if beside == "text tower" else {})}, "state_dict"
    )
    assert import_weights(file, "agmixer", tmp_path / "out") == [tmp_path / "out" / "agmixer.params"]
    given = nd.load(str(tmp_path / "out" / "agmixer.params"))
    assert all(name.startswith("body.") for name in given)

    network = symbols.create(**from_torch(weights).arguments)
    parameters = network._collect_params_with_prefix()
    network.initialize()
    for name, value in given.items():
        parameters[name].set_data(value)
    pixels = faces(2, 32).transpose(0, 3, 1, 2)
    ours = network.body(scale_as_clip(nd, nd.array(pixels))).asnumpy()
    np.testing.assert_allclose(ours, run_tower(weights, pixels), atol=1e-4)


def test_a_small_file_of_a_wide_network_sets_no_memory_aside(monkeypatch):
    weights = draw_checkpoint()
    weights["FeatureExtractor.conv1.weight"] = np.zeros((64_000, 1, 16, 1), np.float32)  # 49 gigabytes a layer
    monkeypatch.setattr(symbols.agmixer.FaceNet, "initialize", lambda *_, **__: pytest.fail("set aside"))
    assert "not the weights of agmixer: FeatureExtractor." in fault_of(weights)


def test_weights_of_data_parallel_training_are_the_same_weights():
    weights = draw_checkpoint()
    one, other = from_torch(weights), from_torch({f"module.{name}": value for name, value in weights.items()})
    assert one.arguments == other.arguments
    assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_half_precision_comes_as_float32():
    weights = draw_tower(np.random.RandomState(8), **TINY)
    taken = from_torch({name: value.astype(np.float64) for name, value in weights.items()}).weights
    assert {value.dtype for value in taken.values()} == {np.dtype(np.float32)}


@pytest.mark.slow
def test_vit_b16_makes_the_network_of_its_name_as_it_is():
    arguments = from_torch(draw_tower(np.random.RandomState(1))).arguments
    ours = symbols.create(**arguments).body
    usual = symbols.create("agmixer").body
    shapes = [{name: value.shape for name, value in body.collect_params().items()} for body in (ours, usual)]
    assert shapes[0] == shapes[1] and arguments["size"] == 224


@pytest.mark.parametrize(
    "spoil, word",
    [
        (lambda w: w.pop("AGmixer.1.layer_norm.bias"), "AGmixer.1.layer_norm.bias 16 is missing"),
        (lambda w: w.update({"fc.weight": np.zeros((2, 3))}), "fc.weight 2x3 is unknown"),
        (lambda w: w.update({"gender_classifier.fc.bias": np.zeros(3)}), "gender_classifier.fc.bias is 3, not 2"),
        (lambda w: w.pop("FeatureExtractor.conv1.weight"), "FeatureExtractor.conv1.weight is missing"),
        (lambda w: w.update({"FeatureExtractor.proj": np.zeros(4)}), "FeatureExtractor.proj has 1 axes, not 2"),
        (lambda w: w.update({"FeatureExtractor.positional_embedding": np.zeros((7, 64))}), "on 7 tokens"),
        (
            lambda w: w.pop("FeatureExtractor.transformer.resblocks.0.ln_1.bias"),
            "resblocks.0.ln_1.bias 64 is missing",
        ),
        (lambda w: w.pop("proj.weight"), "proj.weight is missing"),
    ],
)
def test_what_differs_is_named(spoil, word):
    weights = draw_checkpoint()
    spoil(weights)
    assert word in fault_of(weights)


def test_other_networks_are_refused():
    assert "no name in it begins with" in fault_of({"conv1.weight": np.zeros((64, 3, 7, 7)), "fc.bias": np.zeros(10)})
    many = {f"visual.layer{index}": np.zeros(1) for index in range(30)}
    assert "visual.conv1.weight is missing" in fault_of(many)

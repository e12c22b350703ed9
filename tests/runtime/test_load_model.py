"""A saved network answers as it did before, for any number of faces; what is wrong with files is one line."""

import json
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

from agedge.errors import AgedgeError, UsageError
from agedge.runtime import load_model, save_model
from agedge.runtime.by_mxnet import cut_batch
from agedge.runtime.model_files import Checkpoint, save_checkpoint
from tests.small_networks import convolved, describe, every_operation, faces, save_small, two_answers, with_weights


class RedAndBlue(HybridBlock):
    """Age: mean of the red channel; P(male): that of the blue one, of 255."""

    def hybrid_forward(self, F, data):
        means = F.mean(data, axis=(2, 3))
        age = F.slice_axis(means, axis=1, begin=0, end=1, name="age")
        return age, F.identity(F.slice_axis(means, axis=1, begin=2, end=3) / 255, name="p_male")


class Dense(HybridBlock):
    def __init__(self):
        super().__init__(prefix="")
        self.norm = nn.BatchNorm(prefix="norm_")
        self.dense = nn.Dense(2, prefix="dense_")

    def hybrid_forward(self, F, data):
        both = self.dense(F.mean(self.norm(data / 255), axis=(2, 3)))
        age, gender = F.split(both, num_outputs=2, axis=1)
        return F.identity(age * 30, name="age"), F.sigmoid(gender, name="p_male")


@pytest.fixture
def folder(tmp_path):
    save_small(tmp_path / "small")
    return tmp_path / "small"


def test_a_full_disk_is_an_error_with_the_folder(tmp_path, monkeypatch):
    save_model(RedAndBlue(prefix=""), describe(), tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    def save(path, arrays):
        raise mx.base.MXNetError("FileStream.Write incomplete")

    monkeypatch.setattr(mx.nd, "save", save)
    with pytest.raises(OSError, match="no space left") as told:
        save_model(RedAndBlue(prefix=""), describe(), tmp_path)
    assert told.value.filename == str(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "the model of before is still there"


def test_images_are_bgr_and_networks_get_rgb(tmp_path):
    save_model(RedAndBlue(prefix=""), describe(), tmp_path)
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0] = (51, 7, 20)  # blue, green, red
    images[1] = (255, 9, 90)
    said = load_model(tmp_path).predict(images)
    np.testing.assert_allclose(said.age, [20, 90], rtol=1e-6)
    np.testing.assert_allclose(said.p_male, [0.2, 1], rtol=1e-6)
    assert said.age.dtype == said.p_male.dtype == np.float32 and said.age.shape == said.p_male.shape == (2,)


def test_a_saved_gluon_network_gives_the_outputs_of_the_network(tmp_path):
    network = Dense()
    network.initialize(mx.init.Normal(1))
    images = faces(5)
    data = mx.nd.array(images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))
    with mx.autograd.record():
        total = network(data)[0].sum()
    total.backward()  # moves the statistics away from where they start
    age, p_male = (value.asnumpy().ravel() for value in network(data))
    card = save_model(network, describe(), tmp_path)
    said = load_model(tmp_path).predict(images)
    # Saved weights are those that half precision can hold: 11 bits of each are kept.
    np.testing.assert_allclose(said.age, age, rtol=2**-11)
    np.testing.assert_allclose(said.p_male, p_male, rtol=1e-2)
    assert {name.name for name in tmp_path.iterdir()} == {"card.json", "small-symbol.json", "small-0000.params"}
    assert set(mx.nd.load(str(card.path("mxnet", "params")))) == {
        *(f"arg:{name}" for name in ("dense_bias", "dense_weight", "norm_beta", "norm_gamma")),
        *(f"aux:{name}" for name in ("norm_running_mean", "norm_running_var")),
    }


def test_saving_twice_gives_the_same_bytes(tmp_path):
    network = Dense()
    network.initialize(mx.init.Normal(1))
    network(mx.nd.zeros((1, 3, 32, 32)))
    for folder in ("a", "b"):
        save_model(network, describe(), tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_failed_save_leaves_the_old_model_whole(folder, monkeypatch):
    before = load_model(folder).predict(faces(2))

    def half(file, weights):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError(28, "No space left on device", file)

    monkeypatch.setattr(mx.nd, "save", half)
    with pytest.raises(OSError):
        save_checkpoint(with_weights(every_operation(), seed=6), describe(), folder)
    after = load_model(folder).predict(faces(2))
    np.testing.assert_array_equal(before.age, after.age)
    assert len(list(folder.iterdir())) == 3  # nothing half-written stays behind


def test_outputs_other_than_the_cards_are_not_saved(tmp_path):
    checkpoint = with_weights(every_operation()[1])
    with pytest.raises(AgedgeError, match="outputs are p_male, the card's age, p_male"):
        save_checkpoint(checkpoint, describe(), tmp_path)


def test_any_number_of_faces_gets_the_same_answers(folder):
    model = load_model(folder)
    images = faces(100)
    hundred = model.predict(images)
    assert np.ptp(hundred.age) > 20  # else the comparison is empty
    for count in (1, 3, 9):
        few = model.predict(images[:count])
        np.testing.assert_allclose(few.age, hundred.age[:count], atol=1e-4)
        np.testing.assert_allclose(few.p_male, hundred.p_male[:count], atol=1e-5)
    assert model.predict(images[:0]).age.shape == (0,)


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 15, 64, 100, 200])
@pytest.mark.parametrize("ladder", [(8, 1), (64, 8, 1)])
def test_pieces_cover_every_face_once_in_few_shapes(total, ladder):
    pieces = list(cut_batch(total, ladder))
    covered = [face for start, count, _ in pieces for face in range(start, start + count)]
    assert covered == list(range(total))
    assert {step for _, _, step in pieces} <= set(ladder)
    assert sum(step for _, _, step in pieces) - total < 8


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 31, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), np.zeros((2, 32, 32, 3), np.float32)],
)
def test_faces_of_another_shape_or_type_are_refused(folder, images):
    with pytest.raises(ValueError, match=r"\(n, 32, 32, 3\) uint8"):
        load_model(folder).predict(images)


def test_answers_that_are_no_numbers_are_an_error(tmp_path):
    checkpoint = with_weights(every_operation())
    checkpoint.args["gender_bias"][:] = np.nan
    save_checkpoint(checkpoint, describe(), tmp_path)
    with pytest.raises(AgedgeError, match="NaN"):
        load_model(tmp_path).predict(faces(1))


def test_unknown_names_are_answered_with_the_choices(folder):
    with pytest.raises(UsageError, match="unknown 'tflite'; choose one of mxnet, onnx, ncnn, ncnn-fp16"):
        load_model(folder, runtime="tflite")
    with pytest.raises(UsageError, match="unknown 'tpu'"):
        load_model(folder, device="tpu")
    with pytest.raises(UsageError, match="runs on the cpu only"):
        load_model(folder, runtime="ncnn", device="gpu")
    with pytest.raises(AgedgeError, match="no onnx files; it has mxnet"):
        load_model(folder, runtime="onnx")


def test_a_gpu_that_does_not_exist(folder):
    with pytest.raises(AgedgeError, match="device gpu:7: MXNet sees"):
        load_model(folder, device="gpu:7")


def damage(folder, name, how):
    path = folder / name
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "text":
        path.write_text("not what it says\n")
    return path


@pytest.mark.parametrize("name", ["small-symbol.json", "small-0000.params"])
@pytest.mark.parametrize("how", ["missing", "truncated", "text"])
@pytest.mark.parametrize("checked", [True, False])
def test_damaged_files_are_named(folder, name, how, checked):
    path = damage(folder, name, how)
    if not checked:  # a card without checksums: the library itself meets the damage
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps({**card, "sha256": {}}))
    with pytest.raises(AgedgeError) as error:
        load_model(folder)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_changed_file_is_noticed_by_its_checksum(folder):
    save_checkpoint(with_weights(every_operation(), seed=6), describe(), folder / "other")
    (folder / "small-0000.params").write_bytes((folder / "other" / "small-0000.params").read_bytes())
    with pytest.raises(AgedgeError, match="small-0000.params: its SHA-256 is not the one in card.json"):
        load_model(folder)


def test_no_such_folder_and_no_card(tmp_path):
    with pytest.raises(AgedgeError, match="nowhere: no such model folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(AgedgeError, match="no card.json in this folder"):
        load_model(tmp_path)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(AgedgeError, match="card.json: not a model card"):
        load_model(tmp_path)


def test_a_run_is_found_by_its_folder(tmp_path):
    save_small(tmp_path / "runs" / "one" / "model")
    assert load_model(tmp_path / "runs" / "one").predict(faces(1)).age.shape == (1,)


def save_bare(folder, symbol, **changes):
    """PREFIX-symbol.json and PREFIX-0007.params without a card."""
    checkpoint = with_weights(symbol)
    folder.mkdir(exist_ok=True)
    symbol.save(str(folder / "bare-symbol.json"))
    args = {f"arg:{name}": value for name, value in {**checkpoint.args, **changes}.items() if value is not None}
    aux = {f"aux:{name}": value for name, value in checkpoint.aux.items()}
    mx.nd.save(str(folder / "bare-0007.params"), {**args, **aux})
    return checkpoint, f"{folder / 'bare'},7"


def test_a_bare_checkpoint_of_ours_is_recognised(tmp_path):
    checkpoint, model = save_bare(tmp_path, every_operation())
    found = load_model(model)
    assert found.card.input["size"] == 112 and found.card.crop is None
    save_checkpoint(Checkpoint(*checkpoint), describe(size=112), tmp_path / "with_card")
    images = faces(3, size=112)
    np.testing.assert_array_equal(found.predict(images).age, load_model(tmp_path / "with_card").predict(images).age)


def test_the_card_beside_a_bare_checkpoint_is_used_where_it_means_it(tmp_path):
    save_small(tmp_path, terms="ours")
    assert load_model(f"{tmp_path / 'small'},0").card.terms == "ours"
    _, model = save_bare(tmp_path, every_operation())
    assert load_model(model).card.terms == ""


def test_the_size_of_the_input_is_the_one_that_fits_the_weights(tmp_path):
    symbol = two_answers(mx.sym.Pooling(convolved(), kernel=(10, 10), stride=(10, 10), pool_type="avg"))
    checkpoint = with_weights(symbol, size=64)
    symbol.save(str(tmp_path / "bare-symbol.json"))
    mx.nd.save(str(tmp_path / "bare-0000.params"), {f"arg:{n}": v for n, v in checkpoint.args.items()})
    assert load_model(f"{tmp_path / 'bare'},0").card.input["size"] == 64


def test_202_outputs_are_gender_logits_and_pairs(tmp_path):
    symbol = mx.sym.broadcast_add(mx.sym.var("answer"), 0 * mx.sym.mean(convolved(), axis=(1, 2, 3)).reshape((-1, 1)))
    answer = np.zeros((1, 202), np.float32)
    answer[0, :2] = (0, np.log(3))  # male at 3 : 1
    answer[0, 2::2], answer[0, 3::2] = 1, 0  # "not older" everywhere,
    answer[0, 3 : 3 + 2 * 30 : 2] = 2  # but "older" for the first thirty years
    checkpoint = with_weights_of(symbol, answer)
    symbol.save(str(tmp_path / "bare-symbol.json"))
    mx.nd.save(str(tmp_path / "bare-0000.params"), {f"arg:{n}": v for n, v in checkpoint.items()})
    model = load_model(f"{tmp_path / 'bare'},0")
    said = model.predict(faces(2, size=112))
    np.testing.assert_array_equal(said.age, [30, 30])
    np.testing.assert_allclose(said.p_male, 0.75, rtol=1e-6)
    np.testing.assert_allclose(model.card.crop.points[0], (38.2946, 51.6963))


def with_weights_of(symbol, answer):
    shapes, _, _ = symbol.infer_shape(data=(1, 3, 112, 112), answer=answer.shape)
    drawn = {n: mx.nd.zeros(s) for n, s in zip(symbol.list_arguments(), shapes) if n != "data"}
    return {**drawn, "answer": mx.nd.array(answer)}


def test_unknown_outputs_are_named(tmp_path):
    features = mx.sym.mean(convolved(), axis=(2, 3))
    _, model = save_bare(tmp_path, mx.sym.FullyConnected(features, num_hidden=7, name="groups"))
    with pytest.raises(AgedgeError, match=r"bare,7: outputs groups \(unknown, 7 per face\): known are age"):
        load_model(model)


def test_weights_of_another_network_are_refused(tmp_path):
    _, model = save_bare(tmp_path, every_operation(), conv0_weight=None)
    with pytest.raises(AgedgeError, match="bare-0007.params: 1 weights of bare-symbol.json are missing, such as conv0"):
        load_model(model)
    card = save_small(tmp_path / "small")
    checkpoint = with_weights(every_operation())
    checkpoint.args["conv0_weight"] = mx.nd.zeros((16, 3, 5, 5))
    save_checkpoint(checkpoint, card, tmp_path / "small")
    with pytest.raises(AgedgeError, match=r"conv0_weight is \(16, 3, 5, 5\), the symbol needs \(16, 3, 3, 3\)"):
        load_model(tmp_path / "small")


def test_importing_the_runtime_loads_no_library():
    code = "import sys, agedge.runtime; print([n for n in ('mxnet', 'onnxruntime', 'ncnn') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

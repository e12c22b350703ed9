"""Distillation: loading teachers, their outputs for a face and its mirror image, and a student that learns these."""

import json
import logging
import zipfile

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.faces.align import resize_square
from agedge.runtime import Card, save_model
from agedge.training.distillation import teacher_outputs as module
from agedge.training.distillation.loss import DistillLoss
from agedge.training.distillation.teacher_outputs import BATCH, TeacherOutputs, compute_outputs
from agedge.training.distillation.teachers import choose_targets, load_teachers
from agedge.training.recipe import load_recipe
from agedge.training.run.checkpoint import PARAMS, STATE, TRAINER

SIZE, COUNT = 32, BATCH + 6
SMALL = {"name": "mobilenet025", "size": SIZE, "stem_stride": 2}
ALL = ("ages", "age", "p_male", "features")
CPU = [mx.cpu()]


def distill(**given):
    return load_recipe(None, [f"distill.{key}={value}" for key, value in given.items()]).distill


def build(lively=True, **arguments):
    """A network whose outputs differ from face to face and from one side to the other."""
    network = symbols.create(**{**SMALL, **arguments})
    network.initialize(mx.init.Xavier("gaussian", "in", 3 if lively else 1))
    network(nd.zeros((1, 3, network.size, network.size)))
    return network


def to_data(images):
    return nd.array(images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))


def toys(count, seed=1, size=SIZE):
    """Faces whose brightness is the age and whose lit side the gender: images, ages, genders."""
    rng = np.random.default_rng(seed)
    ages, genders = rng.integers(1, 90, count), rng.integers(0, 2, count)
    images = rng.integers(0, 30, (count, size, size, 3), np.uint8)
    for image, age, gender in zip(images, ages, genders):
        half = size // 2
        image[size // 4 : -size // 4, half * gender : half * gender + half] = 30 + 2.4 * age
    return images, ages, genders


def save_folder(network, folder, name="teacher", crop=None, told=None):
    shape = {"name": "data", "size": network.size, "channels": "RGB", "range": [0, 255]}
    told = network.arguments if told is None else told
    card = Card(name=name, network=told, input=shape, outputs=dict(network.answers), crop=crop)
    save_model(network.slim(), card, folder, halve=False)
    return folder


def save_run(network, folder, told=None):
    folder.mkdir()
    network.save_parameters(str(folder / "params"))
    with zipfile.ZipFile(folder / "best.ckpt", "w") as file:
        file.write(folder / "params", PARAMS)
        file.writestr(TRAINER, b"")
        file.writestr(STATE, json.dumps({"epoch": 1, "step": 1}))
    (folder / "recipe.yaml").write_text(json.dumps({"network": network.arguments if told is None else told}))
    return folder


def load(*sources, size=SIZE, **options):
    return load_teachers(symbols.create, [str(source) for source in sources], size, CPU, **options)


def teach_toys(teachers, cache, what=ALL, images=None, digest="toys"):
    images = toys(COUNT)[0] if images is None else images
    return compute_outputs(
        teachers, lambda start, stop: images[start:stop], len(images), cache, digest, what, progress=False
    )


def predict_directly(network, images):
    outputs = network(to_data(images))
    return network.distribution(nd, outputs).asnumpy(), network.decode(nd, outputs)[1].asnumpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    mx.random.seed(5)
    return save_folder(build(), tmp_path_factory.mktemp("teacher"))


def test_outputs_are_those_of_the_teacher_for_a_face_and_its_mirror_image(folder, tmp_path):
    teacher = load(folder)[0]
    images = toys(COUNT)[0]
    targets = teach_toys([teacher], tmp_path)
    assert targets.widths == {"ages": 101, "p_male": 1, "features": 256}
    index, mirrored = np.array([0, 69, 3, 3, 40]), np.array([False, True, False, True, True])
    seen = np.stack([images[i][:, ::-1] if flip else images[i] for i, flip in zip(index, mirrored)])
    ages, p_male = predict_directly(teacher.network, seen)
    outputs = targets.batch(index, mirrored)
    assert [part.dtype for part in outputs] == [np.float32] * 3
    np.testing.assert_allclose(outputs[0], ages, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(outputs[1], p_male, atol=1e-5)
    assert np.abs(outputs[1][2] - outputs[1][3]) > 1e-3, "the mirror image is another image"
    assert np.abs(targets.arrays["features"].astype(np.float64).mean(axis=(0, 1))).max() < 0.01
    spread = targets.arrays["features"].astype(np.float64).std(axis=(0, 1))
    assert ((np.abs(spread - 1) < 0.01) | (spread == 0)).all() and (spread > 0).mean() > 0.5


def test_targets_come_in_the_order_of_the_loss(folder, tmp_path):
    for what in (ALL, ALL[::-1]):
        targets = teach_toys(load(folder), tmp_path, what)
        assert tuple(targets.widths) == DistillLoss(build(), targets.widths, distill()).targets


def test_teachers_run_once(folder, tmp_path, caplog, monkeypatch):
    first = teach_toys(load(folder), tmp_path)
    file = next(tmp_path.glob("lessons-*.npz"))
    monkeypatch.setattr(module, "run_teachers", lambda *_: pytest.fail("run again"))
    second = teach_toys(load(folder), tmp_path)
    assert first.widths == second.widths
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)
    assert list(tmp_path.iterdir()) == [file]


def test_other_faces_teachers_and_targets_run_again(folder, tmp_path):
    teacher = load(folder)
    other = save_run(build(), tmp_path / "other")
    cache = tmp_path / "cache"
    teach_toys(teacher, cache)
    teach_toys(teacher, cache, digest="others")
    teach_toys(teacher, cache, what=("p_male",))
    teach_toys(teacher, cache, images=toys(COUNT, size=40)[0])
    teach_toys(load(other), cache)
    assert len(list(cache.iterdir())) == 5


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "other"])
def test_a_damaged_cache_is_made_again_with_a_warning(folder, tmp_path, caplog, harm):
    teacher = load(folder)
    first = teach_toys(teacher, tmp_path, what=("age", "p_male"))
    file = next(tmp_path.glob("*.npz"))
    content = bytearray(file.read_bytes())
    if harm == "cut":
        content = content[: len(content) // 2]
    elif harm == "flip":
        content[len(content) // 2] ^= 255
    elif harm == "empty":
        content = b""
    file.write_bytes(content)
    if harm == "other":
        np.savez(file, p_male=np.zeros((COUNT - 1, 2, 1)))
    again = teach_toys(teacher, tmp_path, what=("age", "p_male"))
    assert f"{file}: damaged: the teachers are run again" in caplog.text
    assert (again.arrays["p_male"] == first.arrays["p_male"]).all()
    assert module.read_cache(file, COUNT) is not None


def test_without_room_for_the_cache_the_run_goes_on(folder, tmp_path, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "savez", full)
    assert teach_toys(load(folder), tmp_path, what=("p_male",)).widths == {"p_male": 1}
    assert "No space left on device" in caplog.text and not list(tmp_path.iterdir())


def test_several_teachers_are_averaged_and_their_features_joined(folder, tmp_path):
    other = save_run(build(age_head="dex"), tmp_path / "run")
    teachers = load(folder, other)
    targets = teach_toys(teachers, tmp_path)
    assert targets.widths == {"ages": 101, "p_male": 1, "features": 512}
    face = toys(COUNT)[0][:1]
    ages, p_male = zip(*(predict_directly(teacher.network, face) for teacher in teachers))
    outputs = targets.batch(np.array([0]), np.array([False]))
    np.testing.assert_allclose(outputs[0], np.mean(ages, axis=0), rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(outputs[1], np.mean(p_male, axis=0), atol=1e-5)


def test_a_teacher_without_a_distribution_teaches_years_or_is_left_out(folder, tmp_path, caplog):
    plain = save_run(build(age_head="regression"), tmp_path / "run")
    targets = teach_toys(load(plain), tmp_path)
    network, face = load(plain)[0].network, toys(COUNT)[0][7:8]
    assert targets.widths["age"] == 1 and "ages" not in targets.widths
    outputs = targets.batch(np.array([7]), np.array([False]))[0]
    np.testing.assert_allclose(outputs, network.decode(nd, network(to_data(face)))[0].asnumpy(), rtol=1e-4)
    both = teach_toys(load(folder, plain), tmp_path)
    alone = teach_toys(load(folder), tmp_path)
    assert (both.arrays["ages"] == alone.arrays["ages"]).all()
    assert f"{plain}: no distribution of ages" in caplog.text


def test_a_teacher_of_another_size_sees_the_faces_resized(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    teacher = load(save_run(build(size=48), tmp_path / "run"))[0]
    assert "the faces are resized from 32 to 48 pixels" in caplog.text
    targets = teach_toys([teacher], tmp_path)
    larger = np.stack([resize_square(image, 48) for image in toys(COUNT)[0][:2]])
    outputs = targets.batch(np.arange(2), np.zeros(2, bool))
    np.testing.assert_allclose(outputs[1], predict_directly(teacher.network, larger)[1], atol=1e-5)


def test_a_run_a_model_folder_and_its_prefix_are_the_same_teacher(tmp_path):
    network = build(age_head={"name": "distribution", "sigma": "learnt"})
    sources = [save_run(network, tmp_path / "run"), save_folder(network, tmp_path / "model")]
    sources += [tmp_path / "model" / "teacher", f"{tmp_path / 'model' / 'teacher'},0"]
    teachers = load(*sources)
    assert len({teacher.digest for teacher in teachers}) == 1
    assert [teacher.name for teacher in teachers] == [str(source) for source in sources]
    others = [
        save_run(build(), tmp_path / "other weights"),
        save_run(network, tmp_path / "other size", {**network.arguments, "size": 48}),
    ]
    assert teachers[0].digest not in [teacher.digest for teacher in load(*others)]


def test_sources_that_are_not_teachers_are_refused_in_a_line(folder, tmp_path, caplog):
    network = build()
    run = save_run(network, tmp_path / "run", {"name": "mobilenet025", "size": 32, "heads": 3})
    detector = save_run(network, tmp_path / "detector", {"name": symbols.detectors()[0]})
    nameless = save_run(network, tmp_path / "nameless", [])
    half = save_run(network, tmp_path / "half")
    (half / "best.ckpt").write_bytes((half / "best.ckpt").read_bytes()[:900])
    unknown = save_folder(network, tmp_path / "unknown", told={})
    for source, reason in [
        (tmp_path / "none", "no such model folder"),
        (run, "its network cannot be built: .*heads"),
        (detector, "is a face detector"),
        (nameless, "does not contain the network"),
        (half, "not a checkpoint"),
        (unknown, "its card.json does not contain a network"),
        (folder / "another", "of another model"),
        (f"{folder / 'teacher'},7", "no such file"),
    ]:
        with pytest.raises(AgedgeError, match=reason) as caught:
            load(source)
        assert str(tmp_path) in str(caught.value) or str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_faces_of_another_crop_are_a_warning(tmp_path, caplog):
    source = save_folder(build(), tmp_path / "model", crop=Crop.named("arcface", SIZE))
    load(source, crop=Crop.named("arcface", 64))
    assert "crop" not in caplog.text
    load(source, crop=Crop.named("utkface", SIZE))
    assert f"{source}: this teacher was trained on a different crop" in caplog.text


def test_a_teacher_that_predicts_nan_is_refused(tmp_path):
    network = build()
    network.age.dense.bias.set_data(nd.full((101,), np.nan))
    with pytest.raises(AgedgeError, match="run: this teacher outputs NaN"):
        teach_toys(load(save_run(network, tmp_path / "run")), tmp_path)


def test_targets_of_a_student():
    assert choose_targets(build(), distill()) == ("ages", "age", "p_male")
    assert choose_targets(build(), distill(hints=1, gender=0)) == ("ages", "age", "features")
    ages = symbols.create("ssrnet")
    assert choose_targets(ages, distill()) == ("age",)
    with pytest.raises(UsageError, match="distill.hints=0.5: 'ssrnet' has no pooled features"):
        choose_targets(ages, distill(hints=0.5))
    with pytest.raises(UsageError, match="nothing to learn for 'ssrnet'"):
        choose_targets(ages, distill(weight=0))


def test_features_of_a_teacher_that_has_none(folder, tmp_path):
    other = symbols.create("ssrnet", size=64)
    other.initialize_for_training(mx.cpu())
    other(nd.zeros((1, 3, 64, 64)))
    teachers = load(save_run(other, tmp_path / "run"))
    with pytest.raises(UsageError, match="distill.hints: 'ssrnet' of the teacher .* has no pooled features"):
        teach_toys(teachers, tmp_path)
    with pytest.raises(AgedgeError, match="do not predict p_male"):
        teach_toys(teachers, tmp_path, what=("p_male",))


class FreeStudent:
    """A student whose outputs are free logits: ages (N, 101) and gender (N, 1)."""

    answers = {"age": {"kind": "years"}, "p_male": {"kind": "probability_male"}}

    def distribution(self, F, outputs):
        return F.softmax(outputs[0])

    def decode(self, F, outputs):
        years = F.arange(101).reshape((1, 101))
        return F.sum(F.softmax(outputs[0]) * years, axis=1, keepdims=True), F.sigmoid(outputs[1])


def term_and_gradients(outputs, *targets, widths=("ages", "p_male"), **options):
    loss = DistillLoss(FreeStudent(), {name: 1 for name in widths}, distill(**options))
    outputs = [nd.array(value) for value in outputs]
    for value in outputs:
        value.attach_grad()
    with autograd.record():
        term = loss.term(nd, outputs, None, *map(nd.array, targets))
    term.backward()
    return term.asnumpy(), [value.grad.asnumpy() for value in outputs]


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1, 2, 8])
def test_equal_outputs_have_no_loss_and_no_gradient(temperature):
    logits, gender = np.random.normal(size=(3, 101)) * 3, np.random.normal(size=(3, 1))
    targets = softmax(logits), 1 / (1 + np.exp(-gender))
    term, gradients = term_and_gradients([logits, gender], *targets, temperature=temperature)
    np.testing.assert_allclose(term, 0, atol=1e-4)
    assert max(np.abs(gradient).max() for gradient in gradients) < 1e-4


@pytest.mark.parametrize("temperature", [1, 2, 4])
def test_the_term_against_plain_numbers(temperature):
    logits, gender = np.random.normal(size=(2, 101)) * 3, np.random.normal(size=(2, 1))
    teacher, p = softmax(np.random.normal(size=(2, 101)) * 3), np.array([[0.2], [0.99]])
    soft_s, soft_t = softmax(logits / temperature), softmax(np.log(teacher) / temperature)
    both, both_s = np.hstack([p, 1 - p]), np.hstack([gender, 0 * gender])
    male_t, male_s = softmax(np.log(both) / temperature), softmax(both_s / temperature)
    ages = (soft_t * np.log(soft_t / soft_s)).sum(axis=1)
    males = (male_t * np.log(male_t / male_s)).sum(axis=1)
    term, _ = term_and_gradients([logits, gender], teacher, p, temperature=temperature, weight=0.7, gender=0.3)
    np.testing.assert_allclose(term, temperature**2 * (0.7 * ages + 0.3 * males), rtol=1e-3)


def test_temperature_shows_the_student_what_the_teacher_takes_for_unlikely():
    teacher = np.full((1, 101), 1e-4)
    teacher[0, 30], teacher[0, 60] = 0.98, 0.01
    teacher /= teacher.sum()
    shares = []
    for temperature in (1, 4):
        _, (gradient, _) = term_and_gradients(
            [np.zeros((1, 101)), np.zeros((1, 1))], teacher, [[0.5]], temperature=temperature
        )
        shares.append(gradient[0, 60] / gradient[0, 30])
    assert shares[0] < 0.01 and shares[1] > 10 * abs(shares[0])


def test_years_are_the_target_without_a_distribution():
    logits = np.log(np.eye(101)[[40, 20]] + 1e-12)
    term, _ = term_and_gradients([logits, np.zeros((2, 1))], [[43.5], [20]], widths=("age",), weight=0.5)
    np.testing.assert_allclose(term, [1.75, 0], atol=1e-3)


def test_sure_teachers_and_sure_students_give_numbers():
    logits = 1e4 * np.eye(101)[[0, 50]]
    ages = np.eye(101)[[100, 50]]
    term, gradients = term_and_gradients([logits, [[1e3], [-1e3]]], ages, [[0], [1]])
    assert np.isfinite(term).all() and all(np.isfinite(gradient).all() for gradient in gradients)
    assert term[0] > 10


def test_hints_are_learnt_by_a_projection_that_no_model_has():
    student = build()
    loss = DistillLoss(student, {"features": 5}, distill(hints=2.0))
    loss.initialize(ctx=CPU)
    names = set(loss.collect_params())
    assert names == {"distill_projection_weight", "distill_projection_bias"}
    assert not names & set(student.collect_params())
    data, hints = nd.random.uniform(0, 255, (3, 3, SIZE, SIZE)), nd.random.normal(shape=(3, 5))
    with autograd.record():
        features = student.embed(nd, data)
        outputs = student.answer(nd, features)
        term = loss.term(nd, outputs, features, hints)
    term.backward()
    weight, bias = (loss.collect_params()[f"distill_projection_{part}"] for part in ("weight", "bias"))
    guess = features.asnumpy()[:, :, 0, 0] @ weight.data().asnumpy().T + bias.data().asnumpy()
    np.testing.assert_allclose(term.asnumpy(), 2 * ((guess - hints.asnumpy()) ** 2).mean(axis=1), rtol=1e-3)
    assert np.abs(weight.grad().asnumpy()).max() > 0
    assert np.abs(student.body[0].weight.grad().asnumpy()).max() > 0


def test_calling_a_network_is_embedding_and_answering():
    network = build(norm_logits=True)
    data = nd.random.uniform(0, 255, (2, 3, SIZE, SIZE))
    parts = network.answer(nd, network.embed(nd, data))
    for one, other in zip(network(data), parts):
        assert (one.asnumpy() == other.asnumpy()).all()


class Graph(gluon.HybridBlock):
    """Labels, and a teacher where `targets` come too."""

    def __init__(self, network, distill_loss=None):
        super().__init__(prefix="")
        self.network, self.distill_loss = network, distill_loss

    def hybrid_forward(self, F, data, labels, *targets):
        if self.distill_loss is None:
            return self.network.loss(F, self.network(data), labels)
        features = self.network.embed(F, data)
        outputs = self.network.answer(F, features)
        return self.network.loss(F, outputs, labels) + self.distill_loss.term(F, outputs, features, *targets)


def train(graph, images, labels, targets=None, steps=120, batch=32):
    graph.hybridize()
    trainer = gluon.Trainer(graph.collect_params(), "adam", {"learning_rate": 0.004})
    for step in range(steps):
        trainer.set_learning_rate(0.004 * (1 - step / steps))
        index = np.random.randint(0, len(images), batch)
        mirrored = np.random.rand(batch) < 0.5 if targets else np.zeros(batch, bool)
        shown = np.where(mirrored[:, None, None, None], images[index][:, :, ::-1], images[index])
        more = map(nd.array, targets.batch(index, mirrored)) if targets else ()
        with autograd.record():
            loss = graph(to_data(shown), nd.array(labels[index]), *more)
        loss.backward()
        trainer.step(batch)


def age_error(network, images, ages):
    outputs = network.decode(nd, network(to_data(images)))[0].asnumpy()[:, 0]
    return np.abs(outputs - ages).mean()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    mx.random.seed(5)
    np.random.seed(5)
    images, ages, genders = toys(256, size=16)
    teacher = build(lively=False, size=16)
    train(Graph(teacher), images, np.stack([genders, ages, ages], axis=1))
    return save_run(teacher, tmp_path_factory.mktemp("trained") / "run")


@pytest.mark.parametrize("hints", [0, 1.0])
def test_a_student_learns_from_a_teacher_on_faces_without_labels(trained, tmp_path, hints):
    images, _, _ = toys(256, size=16)
    unseen, ages, _ = toys(64, seed=2, size=16)
    teacher = load(trained, size=16)
    student = build(lively=False, size=16)
    recipe = distill(hints=hints)
    targets = teach_toys(teacher, tmp_path, choose_targets(student, recipe), images)
    loss = DistillLoss(student, targets.widths, recipe)
    loss.initialize(ctx=CPU)
    before = age_error(student, unseen, ages)
    train(Graph(student, loss), images, np.full((256, 3), -1.0), targets)
    taught, learnt = age_error(teacher[0].network, unseen, ages), age_error(student, unseen, ages)
    assert taught < 9 and learnt < 10 < 15 < before, (taught, learnt, before)


def test_targets_of_a_mixed_batch():
    """The mean of two targets is the target of two faces that are mixed in halves."""
    targets = TeacherOutputs({"ages": np.eye(101, dtype=np.float16)[:4].reshape(2, 2, 101)})
    one, other = (targets.batch(np.array([i]), np.array([False]))[0] for i in (0, 1))
    mixed = (one + other) / 2
    term, (gradient, _) = term_and_gradients(
        [np.log(mixed + 1e-9), np.zeros((1, 1))], mixed, widths=("ages",), temperature=1
    )
    assert term[0] == pytest.approx(0, abs=1e-4) and np.abs(gradient).max() < 1e-4

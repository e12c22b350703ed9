"""What a few lines of a recipe add to a training does what its name says."""

import json
import re

import numpy as np
import pytest

import symbols
from agedge.errors import AgedgeError, UsageError
from agedge.records import read_records
from agedge.run_folder import list_last, read_log
from agedge.training.data.open_data import open_data
from agedge.training.loop import clip_gradients
from agedge.training.objective import Objective
from agedge.training.recipe import load_recipe
from agedge.training.run.checkpoint import load_checkpoint, load_part, read_state
from agedge.training.tasks.age_gender import AgeGenderTask
from agedge.training.tasks.finalize_age_gender import finish
from agedge.training.weights.averaging import WeightMean
from agedge.training.weights.param_groups import decay_weights_alone
from tests.training.toy_runs import SIZE, run, write_toys


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return [f"data.{part}={write_toys(folder / f'{part}.rec', n, n)}" for part, n in (("train", 120), ("val", 30))]


def build(**arguments):
    import mxnet as mx

    network = symbols.create("mobilenet025", size=SIZE, stem_stride=2, **arguments)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, SIZE, SIZE)))
    return network


def values(network):
    return {name: p.data().asnumpy() for name, p in network._collect_params_with_prefix().items()}


def test_mixup_is_the_loss_of_two_labels_by_their_shares():
    import mxnet as mx

    network = build()
    data = mx.nd.random.uniform(0, 255, (4, 3, SIZE, SIZE))
    labels = mx.nd.array([[0, 20, 20], [1, 30, 39], [-1, 50, 50], [1, -1, -1]])
    share = mx.nd.array([[0.5], [0.75], [0.6], [1.0]])
    loss, sums = Objective(network, mixup=True)(data, labels, share)

    weight = share.reshape((-1, 1, 1, 1))
    mixed = weight * data + (1 - weight) * data[::-1]
    one, _ = Objective(network)(mixed, labels)
    other, _ = Objective(network)(mixed, labels[::-1])
    expected = share[:, 0] * one + (1 - share[:, 0]) * other
    np.testing.assert_allclose(loss.asnumpy(), expected.asnumpy(), rtol=1e-5)
    assert sums.asnumpy()[0] == 4 and sums.asnumpy()[2] == 3 and sums.asnumpy()[4] == 3
    np.testing.assert_allclose(
        Objective(network, mixup=True)(data, labels, mx.nd.ones((4, 1)))[0].asnumpy(),
        Objective(network)(data, labels)[0].asnumpy(),
        rtol=1e-5,
    )


def test_shares_of_mixed_faces_are_at_least_a_half(tmp_path, toys, monkeypatch):
    seen, complete = [], AgeGenderTask._complete

    def look(self, stream, epoch, first):
        for batch in complete(self, stream, epoch, first):
            seen.append(batch.inputs[2])
            yield batch

    monkeypatch.setattr(AgeGenderTask, "_complete", look)
    run(tmp_path / "run", toys, "train.mixup=0.4", "train.epochs=2")
    shares = np.concatenate(seen)
    assert shares.shape[1] == 1 and shares.min() >= 0.5 and shares.max() <= 1
    assert len(np.unique(shares)) > 0.9 * len(shares) and 0.6 < shares.mean() < 0.95


def test_the_mean_of_weights_follows_them():
    network = build()
    mean = WeightMean(network)
    start = values(network)
    weights = {name: value for name, value in network._collect_params_with_prefix().items()}
    expected, decays = dict(start), []
    for step in range(4):
        for parameter in weights.values():
            parameter.set_data(parameter.data() + (step + 1))
        decay = min(0.5, (1 + step) / (10 + step))
        decays.append(decay)
        mean.step(0.5)
        for name in mean.weights:
            expected[name] = decay * expected[name] + (1 - decay) * weights[name].data().asnumpy()
    mean.settle()
    for name in mean.statistics:
        kept = np.prod(decays)
        expected[name] = kept * expected[name] + (1 - kept) * weights[name].data().asnumpy()
    assert mean.statistics and len(mean.weights) > 60  # more than one call of the fused operator
    for name, value in expected.items():
        np.testing.assert_allclose(mean.arrays[name].asnumpy(), value, rtol=1e-5, atol=1e-5, err_msg=name)

    own = values(network)
    with mean.in_place():
        for name, value in values(network).items():
            np.testing.assert_array_equal(value, mean.arrays[name].asnumpy())
    for name, value in values(network).items():
        np.testing.assert_array_equal(value, own[name])


def test_a_plain_mean_weighs_all_alike():
    network = build()
    mean, seen = WeightMean(network), []
    for step in range(3):
        for parameter in network._collect_params_with_prefix().values():
            parameter.set_data(parameter.data() * (step + 1))
        seen.append(values(network))
        mean.add()
    for name, value in mean.arrays.items():
        expected = np.mean([weights[name] for weights in seen], axis=0)
        np.testing.assert_allclose(value.asnumpy(), expected, rtol=1e-5, atol=1e-7)


def test_the_best_checkpoint_has_the_mean_and_the_last_the_weights(tmp_path, toys):
    folder, _ = run(tmp_path / "run", toys, "train.ema=0.9", "train.epochs=1", "network.age_head=regression")
    kept = load_part(folder / "last.ckpt", "ema.params")
    best, last = build(age_head="regression"), build(age_head="regression")
    load_checkpoint(folder / "best.ckpt", best)
    load_checkpoint(folder / "last.ckpt", last)
    for name, value in values(best).items():
        np.testing.assert_array_equal(value, kept[name].asnumpy(), err_msg=name)
    assert any((value != values(last)[name]).any() for name, value in values(best).items())


def test_averaged_epochs_are_measured_with_statistics_of_their_own(tmp_path, toys, caplog):
    caplog.set_level("INFO")
    folder, _ = run(tmp_path / "run", toys, "train.swa=0.5", "train.epochs=6", "optimizer.schedule=steps")
    assert "mean of 3 epochs' weights: on val.rec age MAE" in caplog.text
    part = load_part(folder / "last.ckpt", "swa.params")
    assert int(part["count"].asscalar()) == 3
    state, mean = read_state(folder / "best.ckpt"), json.loads((folder / "average.json").read_text())
    assert state.get("averaged") in (None, 3) and (mean["epoch"], mean["epochs"]) == (6, 3)
    best = min(row["val_age_mae"] for row in [*read_log(folder / "log.csv"), mean])
    assert state["best"] == read_state(folder / "last.ckpt")["best"] == pytest.approx(best, abs=1e-3)
    if state.get("averaged"):
        best = build()
        load_checkpoint(folder / "best.ckpt", best)
        got = values(best)
        for name, value in part.items():
            if name in got and not name.endswith(("running_mean", "running_var")):
                np.testing.assert_array_equal(got[name], value.asnumpy())
        assert any((got[n] != part[n].asnumpy()).any() for n in got if n.endswith("running_mean"))


def test_gradients_are_scaled_to_the_largest_norm():
    import mxnet as mx

    def norm(gradients):
        return float(np.sqrt(sum((g[0].asnumpy() ** 2).sum() for g in gradients)))

    gradients = [[mx.nd.ones((3, 4)) * 2], [mx.nd.ones((5,)) * -1]]
    direction = [g[0].asnumpy() / norm(gradients) for g in gradients]
    clip_gradients(gradients, 100.0)
    assert norm(gradients) == pytest.approx(np.sqrt(53), rel=1e-5)
    clip_gradients(gradients, 0.5)
    assert norm(gradients) == pytest.approx(0.5, rel=1e-4)
    for g, unit in zip(gradients, direction):
        np.testing.assert_allclose(g[0].asnumpy(), 0.5 * unit, rtol=1e-4)


def test_a_clipped_run_takes_small_steps(tmp_path, toys):
    """SGD's first step is at most rate times norm: of the mean over the batch, not of the sum."""
    plain = build()
    same = ["optimizer.name=sgd", "optimizer.lr=1", "optimizer.momentum=0", "optimizer.wd=0", "optimizer.warmup=0"]
    same += ["optimizer.schedule=steps", "train.max_steps=1", "train.batch_size=16"]
    moved = {}
    for clip in (0, 0.01):
        folder, recipe = run(tmp_path / f"clip{clip}", toys, *same, f"optimizer.clip={clip}")
        import mxnet as mx

        mx.random.seed(recipe.train.seed)
        start = build()
        before, after = values(start), build()
        load_checkpoint(folder / "last.ckpt", after)
        names = [n for n, p in plain._collect_params_with_prefix().items() if p.grad_req != "null"]
        after = values(after)
        moved[clip] = np.sqrt(sum(((after[n] - before[n]) ** 2).sum() for n in names))
    assert moved[0.01] == pytest.approx(0.01, rel=1e-2) and moved[0] > 0.1


def test_no_weight_decay_of_norms_and_biases(tmp_path, toys):
    network = build()
    decay_weights_alone(network)
    for name, parameter in network._collect_params_with_prefix().items():
        assert parameter.wd_mult == (0 if name.rsplit(".")[-1] in ("gamma", "beta", "bias") else 1), name
    # Without a gradient nothing but weight decay moves a parameter: AdamW-free SGD shows it.
    same = ["optimizer.name=sgd", "optimizer.momentum=0", "optimizer.wd=100", "train.max_steps=2"]
    all_, _ = run(tmp_path / "all", toys, *same)
    some, _ = run(tmp_path / "some", toys, *same, "optimizer.wd_on=weights")
    one, two = build(), build()
    load_checkpoint(all_ / "last.ckpt", one)
    load_checkpoint(some / "last.ckpt", two)
    assert values(one)["body.1.gamma"].mean() < 0.8 < 0.99 < values(two)["body.1.gamma"].mean()


def test_balanced_ages_come_more_evenly(tmp_path):
    """As the loader draws them; nothing is trained."""
    old = write_toys(tmp_path / "mostly.rec", 90, 4)
    recipe = load_recipe(None, [f"data.train={old}", f"data.val={old}", "data.balance=1", "data.threads=1"])
    data = open_data(recipe.data, build(), 16, tmp_path / "cache.rec")
    seen = []
    for epoch in range(1, 21):
        with data.load_epoch(recipe.augment, 16, recipe.train.seed, epoch, 0, (0, 1)) as loader:
            seen.extend(index for batch in loader for index in batch.index.tolist())
    labels = np.stack([record.label for record in read_records(old)])
    counts = np.bincount(seen, minlength=90)
    exact = (labels[:, 1] == labels[:, 2]) & (labels[:, 1] >= 0)
    near = np.array([(np.abs(labels[exact, 1] - age) <= 2).sum() for age in labels[:, 1]])
    crowded, lonely = exact & (near >= 5), exact & (near <= 2)
    assert counts[lonely].mean() > 1.5 * counts[crowded].mean()


@pytest.mark.parametrize("head", ["distribution", "regression"])
def test_no_number_ends_the_run_with_its_faces(head, tmp_path, toys, monkeypatch):
    """Where a ReLU makes 0 of it the loss stays a number, but no weight does."""
    complete = AgeGenderTask._complete

    def poison(self, stream, epoch, first):
        for number, batch in enumerate(complete(self, stream, epoch, first), first):
            if epoch == 2 and number == 4:
                batch.inputs[0][3] = np.nan
            yield batch

    monkeypatch.setattr(AgeGenderTask, "_complete", poison)
    same = [f"network.age_head={head}", "train.log_every=3"]
    with pytest.raises(AgedgeError, match="is NaN or infinite") as ended:
        run(tmp_path / "run", toys, *same, "run.save_every=0")
    found = re.search(
        r"at step (\d+)( or one of the 2 after it)?, whose images are in (\S+); last.ckpt holds the last good step; ",
        str(ended.value),
    )
    assert int(found[1]) == (12 if found[2] else 13) and len(str(ended.value).splitlines()) == 1
    saved = list(read_records(tmp_path / "run" / found[3]))
    assert len(saved) == (48 if found[2] else 16) and all(record.image is not None for record in saved)
    assert read_state(tmp_path / "run" / "last.ckpt")["step"] == 11
    monkeypatch.undo()
    run(tmp_path / "run", toys, *same, resume=True)


def test_divergence_ends_the_run_before_anything_is_saved(tmp_path, toys):
    wild = ["network.age_head=regression", "optimizer.name=sgd", "optimizer.lr=1000", "optimizer.warmup=0"]
    with pytest.raises(AgedgeError, match="the loss is .* at step .*; a lower optimizer.lr") as ended:
        run(tmp_path / "run", toys, *wild, "train.log_every=2", "run.save_every=0", "train.epochs=20")
    assert len(str(ended.value).splitlines()) == 1
    for path in list_last(tmp_path / "run"):
        network = build(age_head="regression")
        load_checkpoint(path, network)
        assert all(np.isfinite(value).all() for value in values(network).values())


def test_validation_faces_that_are_trained_on_are_told(tmp_path, toys, caplog):
    train = toys[0].split("=")[1]
    run(tmp_path / "run", [toys[0], f"data.val={train}"], "train.epochs=1")
    assert "train.rec: 120 of its 120 images are also training images" in caplog.text
    caplog.clear()
    run(tmp_path / "other", toys, "train.epochs=1")
    assert "trained on too" not in caplog.text


@pytest.mark.parametrize(
    "change, says",
    [
        ("data.cache=ram", "data.cache: unknown 'ram'; choose one of auto, memory, disk, native"),
        ("train.ema=1.5", "train.ema=1.5: must be a number from 0 to 1"),
        ("train.swa=-1", "train.swa=-1: must be a number from 0 to 1"),
        ("train.mixup=-1", "train.mixup=-1: must be a number of at least 0"),
        ("data.balance=2", "data.balance=2: must be a number from 0 to 1"),
        ("optimizer.clip=-1", "optimizer.clip=-1: must be a number of at least 0"),
        ("optimizer.wd_on=bias", "optimizer.wd_on: unknown 'bias'; choose one of all, weights"),
        ("distill.temperature=0", "distill.temperature=0: must be a number above 0"),
        ("distill.teachers=runs/x", "distill.teachers=runs/x: must be a list of runs"),
        ("run.keep=0", "run.keep=0: must be a number of at least 1"),
        ("train.kvstore=mpi", "train.kvstore: unknown 'mpi'; choose one of"),
        ("train.emma=0.9", "unknown key 'train.emma'; did you mean 'ema'?"),
        ("data={cache: native, balance: 0.5}", "data.balance=0.5: MXNet's reader"),
        ("augment.cutout=0.5 data.cache=native", "augment.cutout=0.5: not supported by MXNet's reader"),
    ],
)
def test_what_cannot_be_is_one_line(change, says, tmp_path, toys):
    with pytest.raises(UsageError) as refused:
        run(tmp_path / "run", toys, *(change.split() if "{" not in change else [change]))
    assert says in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_two_devices_learn_as_one(tmp_path, toys):
    """BatchNorm sees halves of a batch: near, not the same."""
    import mxnet as mx

    from agedge.run_folder import read_log
    from agedge.training.recipe import load_recipe
    from agedge.training.tasks.age_gender import train
    from tests.training.toy_runs import SMALL

    losses = []
    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        recipe = load_recipe(None, [*SMALL, *toys, f"run.dir={tmp_path / str(len(contexts))}", "train.batch_size=32"])
        folder = train(symbols.create(**recipe.network), recipe, contexts, progress=False)
        losses.append([row["loss"] for row in read_log(folder / "log.csv")])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.1)


def test_a_student_learns_from_its_teachers_without_labels(tmp_path, toys):
    """Ages of the student's faces are unknown: what it knows of them it has from the teachers."""
    from agedge.labels import Label
    from agedge.records import RecordWriter, encode
    from agedge.run_folder import read_log

    teacher, recipe = run(tmp_path / "teacher", toys, "train.epochs=12")
    finish(symbols.create(**recipe.network), recipe, teacher)
    teachers = [str(teacher), f"{teacher}/model"]  # a run and a model folder
    with RecordWriter(tmp_path / "unlabelled.rec") as writer:
        for number, record in enumerate(read_records(toys[0].split("=")[1])):
            writer.write(Label(int(number < 2)), encode(record.image))
    same = [f"data.train={tmp_path / 'unlabelled.rec'}", toys[1], "train.epochs=12", "augment.mirror=0.5"]
    same += ["optimizer.lr=0.01"]
    alone, _ = run(tmp_path / "alone", same, "train.epochs=3")  # it learns no age, however long
    lessons = [f"distill={{teachers: {teachers}, hints: 0.1}}", "train.mixup=0.1"]
    taught, _ = run(tmp_path / "taught", same, *lessons)
    error = {path.name: min(row["val_age_mae"] for row in read_log(path / "log.csv")) for path in (alone, taught)}
    assert error["taught"] < 0.75 * error["alone"]
    assert list((taught / "cache").glob("lessons-*.npz"))
    assert not any("distill" in name for name in load_part(taught / "best.ckpt", "network.params"))
    assert load_part(taught / "last.ckpt", "lessons.params")
    # Going on needs the projection too, and asks nobody again.
    run(
        taught, same, f"distill={{teachers: {teachers}, hints: 0.1}}", "train.mixup=0.1", "train.epochs=13", resume=True
    )
    with pytest.raises(AgedgeError, match="nowhere"):
        run(tmp_path / "none", same, f"distill.teachers=[{tmp_path}/nowhere]")

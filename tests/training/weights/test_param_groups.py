"""Which parameters train, how fast, and where they start from: frozen, at a rate of their own, or afresh."""

import shutil

import cv2
import mxnet as mx
import numpy as np
import pytest

import symbols
from agedge.cli import run_command
from agedge.errors import AgedgeError, UsageError
from agedge.labels import Label
from agedge.records import RecordWriter, encode, read_records
from agedge.run_folder import read_log
from agedge.runtime import save_model
from agedge.runtime.card import Card
from agedge.training.recipe import load_recipe
from agedge.training.run.checkpoint import load_checkpoint
from agedge.training.run.pretrained import load_pretrained
from agedge.training.tasks.age_gender import train
from agedge.training.tasks.finalize_age_gender import finish
from agedge.training.weights.load_weights import load_weights
from agedge.training.weights.param_groups import freeze, match_names, set_rates
from tests.training.toy_runs import SIZE, SMALL, run, write_toys


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return [f"data.{part}={write_toys(folder / f'{part}.rec', n, n)}" for part, n in (("train", 96), ("val", 37))]


@pytest.fixture(scope="module")
def begun(tmp_path_factory, toys):
    """A short run with its finished model, and its recipe."""
    folder, recipe = run(tmp_path_factory.mktemp("begun") / "run", toys, "train.epochs=1")
    finish(symbols.create(**recipe.network), recipe, folder)
    return folder, recipe


def build(**arguments):
    network = symbols.create("mobilenet025", size=SIZE, stem_stride=2, **arguments)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, SIZE, SIZE)))
    return network


def values_of(network):
    return {name: p.data().asnumpy() for name, p in network._collect_params_with_prefix().items()}


def read_run(folder, **arguments):
    network = build(**arguments)
    load_checkpoint(folder / "last.ckpt", network)
    return values_of(network)


def changed(before, after):
    return {name for name in before if np.abs(before[name] - after[name]).max() > 1e-9}


def test_patterns_match_structural_names_and_must_match_something():
    names = ["body.0.weight", "body.1.gamma", "age.dense.weight"]
    assert match_names(["body.*"], names, "k") == set(names[:2])
    assert match_names(["*.weight", "body.1.*"], names, "k") == set(names) and match_names([], names, "k") == set()
    with pytest.raises(UsageError, match=r"optimizer.freeze: 'bdy.\*' matches no .* has body.\*, age.\*"):
        match_names(["body.*", "bdy.*"], names, "optimizer.freeze")


def test_frozen_parameters_and_their_statistics_stay(tmp_path, toys, begun):
    first, _ = begun
    folder, _ = run(tmp_path / "run", toys, f"pretrained={first}", "optimizer.freeze=[body.*]", "train.epochs=2")
    before, after = read_run(first), read_run(folder)
    moved = changed(before, after)
    assert moved and all(name.startswith(("age.", "gender.")) for name in moved)
    resumed, _ = run(folder, toys, "optimizer.freeze=[body.*]", resume=True)
    assert not any(name.startswith("body.") for name in changed(after, read_run(resumed)))
    with pytest.raises(UsageError, match="was started with optimizer.freeze="):
        run(folder, toys, "optimizer.freeze=[]", "train.epochs=9", resume=True)


def test_a_frozen_norm_goes_by_its_running_statistics():
    network = build()
    data = mx.nd.random.uniform(0, 255, (4, 3, SIZE, SIZE))
    with mx.autograd.train_mode():
        loose = network(data)[0].asnumpy()
    assert freeze(network, ["body.*"]) == sum(name.startswith("body.") for name in values_of(network))
    with mx.autograd.train_mode():
        frozen = network(data)[0].asnumpy()
    np.testing.assert_allclose(frozen, network(data)[0].asnumpy(), atol=1e-6)
    assert np.abs(frozen - loose).max() > 1e-3


def test_rates_of_their_own_by_the_last_pattern_that_matches(tmp_path, toys):
    network = build()
    set_rates(network, 0.01, {"body.*": 0.001, "body.0.*": 0.02})
    rates = {name: p.lr_mult for name, p in network._collect_params_with_prefix().items()}
    assert rates["body.0.weight"] == pytest.approx(2) and rates["body.2.weight"] == pytest.approx(0.1)
    assert rates["age.dense.weight"] == 1
    with pytest.raises(UsageError, match="optimizer.lr=0: "):
        set_rates(network, 0, {"body.*": 0.1})
    folder, _ = run(tmp_path / "run", toys, "optimizer.lr_of={'*.dense.*': 0.0}", "optimizer.wd=0", "train.epochs=1")
    fresh, _ = run(tmp_path / "none", toys, "optimizer.lr=1e-12", "optimizer.wd=0", "train.epochs=1")
    moved = changed(read_run(fresh), read_run(folder))
    assert "body.0.weight" in moved and "age.dense.weight" not in moved


def test_fresh_parameters_do_not_come_from_elsewhere(begun):
    first, _ = begun
    before, network = read_run(first), build(age_head="regression")
    with pytest.raises(AgedgeError, match="of another network: .*age.dense.weight is "):
        load_pretrained(network, str(first), mx.cpu())
    mine = values_of(network)
    started = load_pretrained(network, str(first), mx.cpu(), ["age.*"])
    assert started.describe() == f"{first / 'best.ckpt'}; 2 parameters start afresh, of age"
    after = values_of(network)
    assert changed(mine, after) >= {"body.0.weight", "gender.dense.weight"}
    assert (after["age.dense.weight"] == mine["age.dense.weight"]).all()
    np.testing.assert_array_equal(after["body.0.weight"], before["body.0.weight"])


def test_a_file_of_a_backbone_alone_is_enough(begun, tmp_path):
    values = {name: value for name, value in read_run(begun[0]).items() if name.startswith("body.")}
    file = tmp_path / "body.params"
    mx.nd.save(str(file), {name: mx.nd.array(value) for name, value in values.items()})
    network = build()
    assert load_pretrained(network, str(file), mx.cpu()).describe().endswith("start afresh, of age, gender")
    np.testing.assert_array_equal(values_of(network)["body.0.weight"], values["body.0.weight"])
    # half a backbone is not one
    del values["body.0.weight"]
    mx.nd.save(str(file), {name: mx.nd.array(value) for name, value in values.items()})
    with pytest.raises(AgedgeError, match="of another network: body.0.weight is not in the file$"):
        load_pretrained(network, str(file), mx.cpu())


def test_a_finished_model_need_not_have_what_only_the_loss_needs(tmp_path):
    def build_mixer():
        body = {"patch": 16, "width": 32, "layers": 1, "heads": 2, "features": 16}
        network = symbols.create("agmixer", size=SIZE, **body)
        network.initialize_for_training(mx.cpu())
        network(mx.nd.zeros((1, 3, SIZE, SIZE)))
        return network

    network, other = build_mixer(), build_mixer()
    card = Card(name="mixer", network={}, input={"size": SIZE}, outputs=dict(network.answers))
    params = save_model(network.slim(), card, tmp_path, halve=False).path("mxnet", "params")
    assert load_weights(other, params, mx.cpu()) == ["age1.head.dense.weight", "age1.head.dense.bias"]
    faces = mx.nd.random.uniform(0, 255, (2, 3, SIZE, SIZE))
    for mine, theirs in zip(other.decode(mx.nd, other(faces)), network.decode(mx.nd, network(faces))):
        np.testing.assert_array_equal(mine.asnumpy(), theirs.asnumpy())


def test_patience_ends_a_run_that_gets_no_better(tmp_path, toys, caplog):
    caplog.set_level("INFO")
    folder, _ = run(tmp_path / "run", toys, "train.epochs=9", "train.patience=2", "optimizer.lr=1e-9")
    epochs = len(read_log(folder / "log.csv"))
    assert 3 <= epochs < 9 and f"no better than epoch {epochs - 2} for 2 epochs" in caplog.text


def test_a_network_of_ages_wants_known_ages(tmp_path):
    with RecordWriter(tmp_path / "genders.rec") as writer:
        for _ in range(20):
            writer.write(Label(1), cv2.imencode(".jpg", np.zeros((SIZE, SIZE, 3), np.uint8))[1].tobytes())
    data = [f"data.{part}={tmp_path / 'genders.rec'}" for part in ("train", "val")]
    recipe = load_recipe(None, ["network.name=ssrnet", "train.batch_size=16", *data, f"run.dir={tmp_path / 'run'}"])
    with pytest.raises(AgedgeError, match="genders.rec: no record with a known age$"):
        train(symbols.create(**recipe.network), recipe, [mx.cpu()], progress=False)
    words = [
        "network.name=ssrnet_gender",
        "train.batch_size=16",
        "train.epochs=1",
        *data,
        f"run.dir={tmp_path / 'run2'}",
    ]
    gender = load_recipe(None, words)
    train(symbols.create(**gender.network), gender, [mx.cpu()], progress=False)
    assert "genders.rec" in finish(symbols.create(**gender.network), gender, tmp_path / "run2")
    assert not (tmp_path / "run2" / "errors.png").exists()


def test_a_misspelt_fresh_pattern_is_told_without_weights_too(tmp_path, toys):
    with pytest.raises(UsageError, match=r"fresh: 'agee.\*' matches no parameter"):
        run(tmp_path / "run", toys, "fresh=[agee.*]")


def test_without_ages_there_is_no_picture_of_their_errors(tmp_path, caplog, capsys):
    from evaluate import evaluate

    toys = write_toys(tmp_path / "faces.rec", 16, 3)
    with RecordWriter(tmp_path / "ageless.rec") as writer:
        for record in read_records(toys):
            writer.write(Label(1), encode(record.image))
    words = [f"data.train={tmp_path / 'ageless.rec'}", f"data.val={tmp_path / 'ageless.rec'}", "train.epochs=1"]
    folder, recipe = run(tmp_path / "run", words)
    finish(symbols.create(**recipe.network), recipe, folder)
    assert not (folder / "errors.png").exists() and (folder / "report.json").is_file()
    evaluate(str(folder), [tmp_path / "ageless.rec"], "mxnet", "", "auto", None, tmp_path / "report")
    assert "errors.png: is not written" in caplog.text and not (tmp_path / "report" / "errors.png").exists()


def test_test_and_fin(tmp_path, toys, begun, capsys, caplog, monkeypatch):
    import train as command_line

    monkeypatch.setattr(command_line, "use_all_cores", lambda: None)  # it sets the environment

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            run_command(command_line.main, ["--quiet", *words])
        assert ended.value.code == 0
        return capsys.readouterr().out

    caplog.set_level("INFO")
    first = shutil.copytree(begun[0], tmp_path / "begun")
    here = [f"run.dir={first}", *SMALL, *toys]
    assert "validation: val.rec" in call("--test", *here) and not (first / "test.json").exists()
    said = call("--test", *here, toys[1].replace("data.val", "data.test"))
    assert "test: val.rec" in said and (first / "test.json").is_file()
    tuned = [*SMALL, *toys, "train.epochs=1", "network.age_head=regression", f"run.dir={tmp_path / 'tuned'}"]
    call("--fin", "--pretrained", str(first), *tuned)
    assert "2 parameters start afresh, of age" in caplog.text and "parameters are frozen" in caplog.text
    after = read_run(tmp_path / "tuned", age_head="regression")
    np.testing.assert_array_equal(after["body.0.weight"], read_run(first)["body.0.weight"])


@pytest.mark.parametrize(
    "words, status, says",
    [
        (["--fin"], 2, "--fin: needs --pretrained"),
        (["--test", "run.dir=none"], 1, "none: no such model folder"),
        (["optimizer.freeze=[7]"], 2, "optimizer.freeze=[7]: must be a list of patterns"),
        (["optimizer.lr_of=3"], 2, "'optimizer.lr_of' is a section, and must be a mapping"),
        (["optimizer.lr_of={a: fast}"], 2, "optimizer.lr_of.a=fast: must be a number"),
        (["fresh=age"], 2, "fresh=age: must be a list of patterns"),
        (["optimizer.schedule=linear"], 2, "choose one of cosine, steps, inverse"),
        (["train.patience=-1"], 2, "train.patience=-1: "),
        (["network.name=lenet"], 2, "error: network: unknown 'lenet'; choose one of"),
        (["network.name=ssrnet", "network.depth=3"], 2, "error: network: ssrnet: unknown argument 'depth'"),
    ],
)
def test_wrong_usage_is_one_line(words, status, says, capsys):
    import train as command_line

    with pytest.raises(SystemExit) as ended:
        run_command(command_line.main, words)
    said = capsys.readouterr().err
    assert ended.value.code == status and says in said and len(said.splitlines()) == 1

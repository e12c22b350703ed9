"""What the benchmark of training compares: the usual script reads and learns as it should; ratios are of neighbours."""

import re
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

import symbols
from agedge.records import read_records
from agedge.training.recipe import AugmentSection
from benchmarks.plain_training import AGES, FaceIter, GenderRight, YearsOff, build_symbol, time_plain
from benchmarks.training import Pair, make_rows, say_memory, write_faces
from tests.paths import ROOT
from tests.training.toy_runs import SIZE, write_toys

NETWORK = {"name": "mobilenet025", "size": SIZE, "stem_stride": 2}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return write_toys(tmp_path_factory.mktemp("toys") / "toys.rec", 24, seed=3)


def test_the_usual_script_reads_every_face_once(toys):
    faces = FaceIter(toys, SIZE, 8, 1 + AGES, AugmentSection())
    for _ in range(2):  # epochs
        batches = list(faces)
        data, labels = (np.concatenate([getattr(b, name)[0].asnumpy() for b in batches]) for name in ("data", "label"))
        order = np.lexsort(data.reshape(24, -1).T)
        records = list(read_records(toys))
        wanted = np.stack([record.image[:, :, ::-1].transpose(2, 0, 1) for record in records]).astype(np.float32)
        other = np.lexsort(wanted.reshape(24, -1).T)
        np.testing.assert_array_equal(data[order], wanted[other])
        np.testing.assert_array_equal(labels[order][:, 0], [records[i].label[0] for i in other])
        np.testing.assert_array_equal(labels[order][:, 1:].sum(axis=1), [records[i].label[1] for i in other])
        faces.reset()


def test_the_usual_script_has_our_network_and_a_softmax_for_every_year():
    symbol, width = build_symbol({**NETWORK, "age_head": "distribution"}, 4)
    assert len(symbol.list_outputs()) == 1 + AGES and width == 1 + AGES
    network = symbols.create(**NETWORK, age_head="ordinal_pairs")
    network.initialize()
    x = mx.nd.random.uniform(0, 255, (4, 3, SIZE, SIZE))
    ages, _ = network(x)
    shapes, _, _ = symbol.infer_shape(data=x.shape, label=(4, width))
    values = {name: mx.nd.zeros(shape) for name, shape in zip(symbol.list_arguments(), shapes)}
    for name, parameter in network.collect_params().items():
        values[name] = parameter.data()
    values["data"] = x
    statistics = [values.pop(name) for name in symbol.list_auxiliary_states()]
    said = symbol.bind(mx.cpu(), values, aux_states=statistics, grad_req="null").forward(is_train=False)
    pairs = mx.nd.softmax(ages.reshape((4, AGES, 2))).asnumpy()
    np.testing.assert_allclose(np.stack([pair.asnumpy() for pair in said[1:]], axis=1), pairs, atol=1e-5)


def test_the_usual_script_measures_years_and_genders():
    label = mx.nd.array([[1, *[1] * 30, *[0] * 70], [0, *[1] * 40, *[0] * 60]])
    older = [mx.nd.array([[0, 1], [0, 1]] if k < 35 else [[1, 0], [1, 0]]) for k in range(AGES)]
    pairs = [mx.nd.array([[0.2, 0.8], [0.3, 0.7]]), *older]
    scores = [mx.nd.array([[0.8], [0.7]]), mx.nd.array([[35], [35]])]
    for said, labels in ((pairs, label), (scores, mx.nd.array([[1, 30], [0, 40]]))):
        years, genders = YearsOff(), GenderRight()
        years.update([labels], said)
        genders.update([labels], said)
        assert years.get()[1] == 5 and genders.get()[1] == 0.5


@pytest.mark.parametrize("name", ["ssrnet", "ssrnet_multi"])
def test_the_usual_script_trains_scores_too(name, tmp_path):
    path = write_faces(tmp_path / "a.rec", 24, 40, seed=0)
    assert time_plain(path, {"name": name, "size": 40}, 4, AugmentSection(mirror=0.5, contrast=0.2)) > 0


def test_ratios_are_of_bursts_that_follow_each_other():
    pair = Pair([100.0, 10.0, 100.0], [90.0, 10.0, 80.0], 0.02, 500.0)  # something else ran during the second
    turns = [{"script": [50.0, 20.0], "memory": pair}, {"script": [40.0, 40.0], "memory": pair._replace(peak=700.0)}]
    (row,) = make_rows("fast", 64, ["memory"], turns)
    assert row == "| fast | 64 | memory | 100 | 80 | 90.0% | 2.0% | 700 | 40 | 2.00 |"


def test_memory_is_compared_with_the_second_epoch():
    assert say_memory("fast", [300, 400, 410, 408]).endswith("the last +2.0% against the second")


@pytest.mark.slow
def test_the_table_goes_into_its_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: python -m benchmarks.training --write -->\n<!-- end of the table -->\nafter\n")
    small = ["network.size=32", "train.batch_size=8", "--recipe", "recipes/mobilenet025.yaml", "--repeats", "1"]
    command = [sys.executable, "-m", "benchmarks.training", "--steps", "4", *small, "--write", str(page)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    lines = page.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    rows = [line for line in lines if line.startswith("| mobilenet025 | 8 |")]
    assert [row.split(" | ")[2] for row in rows] == ["memory", "disk", "native"]
    figures = [[float(n) for n in re.findall(r"[\d.]+", row.replace(",", ""))[2:]] for row in rows]
    assert all(rate > 0 and peak > 100 for _, rate, _, _, peak, _, _ in figures)

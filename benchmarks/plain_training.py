"""The usual MXNet training script for ages: what `benchmarks/training.py` compares the training loop with.

`Module.fit` over a Python iterator: a record at a time is decoded, changed and turned to planes by `mx.image`, behind a
`PrefetchingIter`; a softmax of two for every "older than k" and one for gender; metrics that look at every batch. The
network is that of `symbols`, unfused; faces are mirrored and their colours changed as the recipe says, but not turned,
scaled or shifted, which such scripts do not do either.
"""

import random
import time

import mxnet as mx
import numpy as np

import symbols
from agedge.training.recipe import AugmentSection

AGES = 100  # decisions "older than k"
YEARS = 101  # that SSR-Net's score of 1 stands for
WARM = 2  # batches of an epoch before the clock runs: the prefetched ones were made before it


class FaceIter(mx.io.DataIter):
    """Faces of a .rec in an order shuffled anew every epoch; the rest that fills no batch is left out.

    A batch: data (n, 3, size, size) RGB 0..255, label (n, width) of `make_label`'s numbers.
    """

    def __init__(self, path, size: int, batch_size: int, width: int, augment: AugmentSection):
        super().__init__(batch_size)
        self.records = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
        self.keys, self.mirror = list(self.records.keys), augment.mirror
        self.jitter = mx.image.ColorJitterAug(augment.brightness, augment.contrast, augment.saturation)
        self.provide_data = [mx.io.DataDesc("data", (batch_size, 3, size, size))]
        self.provide_label = [mx.io.DataDesc("label", (batch_size, width))]
        self.reset()

    def reset(self):
        random.shuffle(self.keys)
        self.at = 0

    def next(self):
        if self.at + self.batch_size > len(self.keys):
            raise StopIteration
        data, label = (mx.nd.empty(desc[0].shape) for desc in (self.provide_data, self.provide_label))
        for row in range(self.batch_size):
            header, jpeg = mx.recordio.unpack(self.records.read_idx(self.keys[self.at + row]))
            image = mx.image.imdecode(jpeg)
            if random.random() < self.mirror:
                image = mx.nd.flip(image, axis=1)
            image = self.jitter(image.astype("float32"))
            data[row][:] = mx.nd.transpose(image, axes=(2, 0, 1))
            label[row][:] = np.array(make_label(header.label, label.shape[1]), np.float32)
        self.at += self.batch_size
        return mx.io.DataBatch([data], [label], pad=0)


def make_label(label: np.ndarray, width: int) -> list:
    """[gender, age_min, age_max] as `width` numbers: gender, and the age or for every k whether the face is older."""
    gender, age = label[:2]
    return [gender, age] if width == 2 else [gender, *(age > k for k in range(width - 1))]


class YearsOff(mx.metric.EvalMetric):
    """The age MAE of every batch, in NumPy."""

    def __init__(self):
        super().__init__("age_mae")

    def update(self, labels, preds):
        ages, said = labels[0].asnumpy()[:, 1:].sum(axis=1), preds[1:]
        years = said[0].asnumpy()[:, 0] if len(said) == 1 else sum(pair.asnumpy().argmax(axis=1) for pair in said)
        self.sum_metric += np.abs(years - ages).sum()
        self.num_inst += len(ages)


class GenderRight(mx.metric.EvalMetric):
    """The share of right genders of every batch, in NumPy."""

    def __init__(self):
        super().__init__("gender_acc")

    def update(self, labels, preds):
        genders, said = labels[0].asnumpy()[:, 0], preds[0].asnumpy()
        right = (said.argmax(axis=1) if said.shape[1] == 2 else said[:, 0] > 0.5) == genders
        self.sum_metric += right.sum()
        self.num_inst += len(right)


def build_symbol(arguments: dict, batch_size: int) -> tuple:
    """(symbol of the losses of gender and age, numbers of a label) for the network that `symbols.create` builds.

    One with an age head gets the pairs of the usual script; SSR-Net, whose answers are scores, L1.
    """
    data, label = mx.sym.var("data"), mx.sym.var("label")

    def column(at: int):
        return mx.sym.slice_axis(label, axis=1, begin=at, end=at + 1)

    if "age_head" not in symbols.create(**arguments).arguments:
        network = symbols.create(**arguments)
        scores = dict(zip(network.answers, network(data)))
        gender = scores.get("p_male", mx.sym.zeros((batch_size, 1)))
        years = scores.get("age", mx.sym.zeros((batch_size, 1))) * YEARS
        outputs = ((gender, 0, "gender"), (years, 1, "age"))
        return mx.sym.Group([mx.sym.MAERegressionOutput(said, column(at), name=name) for said, at, name in outputs]), 2

    def softmax(logits, pair: int, at: int, name: str):
        logits = mx.sym.slice_axis(logits, axis=1, begin=2 * pair, end=2 * pair + 2)
        target = mx.sym.reshape(column(at), shape=(batch_size,))
        return mx.sym.SoftmaxOutput(logits, target, name=name, normalization="valid")

    ages, genders = symbols.create(**{**arguments, "age_head": "ordinal_pairs"})(data)
    older = [softmax(ages, k, 1 + k, f"older{k}") for k in range(AGES)]
    return mx.sym.Group([softmax(genders, 0, 0, "gender"), *older]), 1 + AGES


def time_plain(path, arguments: dict, batch_size: int, augment: AugmentSection) -> float:
    """Images a second in the second epoch of training on a .rec, once it is under way.

    `arguments` of the network, by their names, and `augment` as a recipe has them.
    """
    symbol, width = build_symbol(arguments, batch_size)
    faces = mx.io.PrefetchingIter(FaceIter(path, arguments["size"], batch_size, width, augment))
    clock = []

    def look(state):  # metrics have waited for the device
        if state.epoch == 1:
            clock.append(time.perf_counter())

    module = mx.mod.Module(symbol, data_names=["data"], label_names=["label"], context=mx.cpu())
    module.fit(
        faces,
        num_epoch=2,
        eval_metric=mx.metric.CompositeEvalMetric([YearsOff(), GenderRight()]),
        optimizer="sgd",
        # Small, since noise has nothing to teach: the time of a step does not depend on it.
        optimizer_params={"learning_rate": 0.001, "momentum": 0.9, "wd": 0.0005},
        initializer=mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2),
        batch_end_callback=[mx.callback.Speedometer(batch_size, 20), look],
    )
    clock = clock[WARM:]
    return (len(clock) - 1) * batch_size / (clock[-1] - clock[0])

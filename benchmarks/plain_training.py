"""The usual MXNet training script for ages, with which `benchmarks/training.py` compares the training loop.

`Module.fit` over a Python iterator: `mx.image` decodes and augments one record at a time, behind a
`PrefetchingIter`; a softmax of two for every "older than k" and one for gender; metrics of every batch. The network is
that of `symbols`, unfused; faces are mirrored and their colours changed as in the recipe, but not rotated, scaled or
shifted: such scripts do not do that either.
"""

import random
import time

import mxnet as mx
import numpy as np

import symbols
from agedge.training.recipe import AugmentSection

AGES = 100  # decisions "older than k"
YEARS = 101  # age at SSR-Net's score of 1
WARM = 2  # batches of an epoch that are not timed: they were prefetched


class FaceIter(mx.io.DataIter):
    """Faces of a .rec in an order shuffled anew every epoch; the last, incomplete batch is left out.

    A batch has data (n, 3, size, size) RGB 0..255 and label (n, width), as `make_label` returns it.
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
    """Convert [gender, age_min, age_max] to `width` numbers: gender, and the age or, for every k, whether the face is
    older."""
    gender, age = label[:2]
    return [gender, age] if width == 2 else [gender, *(age > k for k in range(width - 1))]


class AgeError(mx.metric.EvalMetric):
    """The age MAE, from every batch, in NumPy."""

    def __init__(self):
        super().__init__("age_mae")

    def update(self, labels, preds):
        ages, outputs = labels[0].asnumpy()[:, 1:].sum(axis=1), preds[1:]
        one = len(outputs) == 1
        years = outputs[0].asnumpy()[:, 0] if one else sum(pair.asnumpy().argmax(axis=1) for pair in outputs)
        self.sum_metric += np.abs(years - ages).sum()
        self.num_inst += len(ages)


class GenderAccuracy(mx.metric.EvalMetric):
    """The gender accuracy, from every batch, in NumPy."""

    def __init__(self):
        super().__init__("gender_acc")

    def update(self, labels, preds):
        genders, outputs = labels[0].asnumpy()[:, 0], preds[0].asnumpy()
        right = (outputs.argmax(axis=1) if outputs.shape[1] == 2 else outputs[:, 0] > 0.5) == genders
        self.sum_metric += right.sum()
        self.num_inst += len(right)


def build_symbol(arguments: dict, batch_size: int) -> tuple:
    """Return the symbol of the losses of gender and age, and the width of a label, for a network of `symbols.create`.

    A network with an age head gets the pairs of logits of the usual script; SSR-Net, whose outputs are scores, L1.
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
        return mx.sym.Group(
            [mx.sym.MAERegressionOutput(score, column(at), name=name) for score, at, name in outputs]
        ), 2

    def softmax(logits, pair: int, at: int, name: str):
        logits = mx.sym.slice_axis(logits, axis=1, begin=2 * pair, end=2 * pair + 2)
        target = mx.sym.reshape(column(at), shape=(batch_size,))
        return mx.sym.SoftmaxOutput(logits, target, name=name, normalization="valid")

    ages, genders = symbols.create(**{**arguments, "age_head": "ordinal_pairs"})(data)
    older = [softmax(ages, k, 1 + k, f"older{k}") for k in range(AGES)]
    return mx.sym.Group([softmax(genders, 0, 0, "gender"), *older]), 1 + AGES


def time_plain(path, arguments: dict, batch_size: int, augment: AugmentSection) -> float:
    """Return images a second in the second epoch of training on a .rec, without its first batches.

    `arguments`: those of the network; `augment`: that section of the recipe.
    """
    symbol, width = build_symbol(arguments, batch_size)
    faces = mx.io.PrefetchingIter(FaceIter(path, arguments["size"], batch_size, width, augment))
    clock = []

    def record_time(state):  # metrics have waited for the device
        if state.epoch == 1:
            clock.append(time.perf_counter())

    module = mx.mod.Module(symbol, data_names=["data"], label_names=["label"], context=mx.cpu())
    module.fit(
        faces,
        num_epoch=2,
        eval_metric=mx.metric.CompositeEvalMetric([AgeError(), GenderAccuracy()]),
        optimizer="sgd",
        # Small, since the images are noise: the time of a step does not depend on it.
        optimizer_params={"learning_rate": 0.001, "momentum": 0.9, "wd": 0.0005},
        initializer=mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2),
        batch_end_callback=[mx.callback.Speedometer(batch_size, 20), record_time],
    )
    clock = clock[WARM:]
    return (len(clock) - 1) * batch_size / (clock[-1] - clock[0])

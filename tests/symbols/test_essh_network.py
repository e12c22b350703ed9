"""ESSH's network: its nine maps at any size, its loss on cases worked out by hand, and its slim form."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from symbols.essh import ANCHORS, ESSH, MIN_NEGATIVES, NEGATIVES, OUTPUTS, STRIDES

CHANNELS = {"score": 4, "box": 8, "landmarks": 20}


def build(**arguments):
    network = ESSH(**{"width": 8, **arguments})
    network.initialize_for_training(mx.cpu())
    return network


def count_anchors(side):
    return sum(ANCHORS * (-(-side // stride)) ** 2 for stride in STRIDES)


def make_targets(images, side, faces=()):
    """Targets with no face but those at (image, anchor): kind, box deltas of 0.5 and landmark deltas of -0.5."""
    anchors = count_anchors(side)
    kinds = nd.zeros((images, anchors))
    for image, anchor, kind in faces:
        kinds[image, anchor] = kind
    return kinds, nd.full((images, anchors, 4), 0.5), nd.full((images, anchors, 10), -0.5)


@pytest.mark.parametrize("height, width", [(64, 64), (100, 76), (33, 257), (1, 1)])
def test_nine_maps_of_any_size_rounded_up(height, width):
    outputs = build()(nd.random.uniform(0, 255, (2, 3, height, width)))
    shapes = {name: output.shape for name, output in zip(OUTPUTS, outputs)}
    assert len(outputs) == 9
    assert shapes == {
        f"{kind}{stride}": (2, channels, -(-height // stride), -(-width // stride))
        for stride in STRIDES
        for kind, channels in CHANNELS.items()
    }


def test_the_shipped_form_has_433296_parameters_and_fits_in_two_megabytes(tmp_path):
    network = symbols.create("essh")
    network.initialize_for_training(mx.cpu())
    network(nd.zeros((1, 3, 32, 32)))
    assert sum(np.prod(p.shape) for p in network.collect_params().values()) == 433296
    slim = network.slim()
    slim(nd.zeros((1, 3, 32, 32)))
    slim.export(str(tmp_path / "essh"))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2e6
    assert (network.arguments["body"], network.arguments["width"]) == ("mobilenet025", 64)


def test_names_of_parameters_are_the_same_in_every_process():
    first, second = build(), build()
    assert list(first.collect_params()) == list(second.collect_params())
    assert all(name.startswith("essh_") for name in first.collect_params())


def test_hybridized_is_imperative():
    network = build()
    data = nd.random.uniform(0, 255, (1, 3, 77, 90))
    before = [output.asnumpy() for output in network(data)]
    network.hybridize()
    for one, other in zip(before, network(data)):
        np.testing.assert_allclose(other.asnumpy(), one, atol=1e-5)


def test_slim_is_the_softmax_of_the_training_form():
    network = build()
    data = nd.random.uniform(0, 255, (2, 3, 64, 50))
    outputs = [output.asnumpy() * 10 for output in network(data)]
    for head in (network.head32, network.head16, network.head8):
        for last in (head.score, head.box, head.landmarks):
            last.weight.set_data(last.weight.data() * 10)  # for probabilities far from one half
    slim = network.slim()
    for name, mine, theirs in zip(OUTPUTS, outputs, slim(data)):
        if name.startswith("score"):
            chances = np.exp(mine - mine.max(axis=1, keepdims=True)).reshape(2, 2, ANCHORS, *mine.shape[2:])
            mine = (chances / chances.sum(axis=1, keepdims=True)).reshape(mine.shape)
            np.testing.assert_allclose(theirs.asnumpy()[:, :2] + theirs.asnumpy()[:, 2:], 1, atol=1e-6)
        np.testing.assert_allclose(theirs.asnumpy(), mine, rtol=1e-4, atol=1e-5)
    symbol = slim(mx.sym.var("data"))
    assert [name[: -len("_output")] for name in mx.sym.Group(symbol).list_outputs()] == list(OUTPUTS)


def test_slim_after_training_with_fused_norms_says_the_same():
    network = build(width=8)
    network.fuse()
    data = nd.random.uniform(0, 255, (2, 3, 32, 32))
    with autograd.record():
        sum(output.sum() for output in network(data)).backward()
    fused = network(data)[1].asnumpy()
    np.testing.assert_allclose(network.slim()(data)[1].asnumpy(), fused, atol=1e-5)


def answer(network, images, side):
    with autograd.record():
        outputs = network(nd.random.uniform(0, 255, (images, 3, side, side)))
    return outputs


def test_an_image_without_a_face_teaches_scores_alone():
    network, side = build(), 64
    outputs = answer(network, 2, side)
    for output in outputs:
        output.attach_grad()
    with autograd.record():
        said, box, landmarks = network.loss(nd, outputs, *make_targets(2, side))
    autograd.backward([said, box, landmarks])
    assert said.shape == box.shape == landmarks.shape == (2,)
    assert np.isfinite(said.asnumpy()).all() and (said.asnumpy() > 0).all()
    assert not box.asnumpy().any() and not landmarks.asnumpy().any()
    gradients = {name: np.abs(output.grad.asnumpy()).sum() for name, output in zip(OUTPUTS, outputs)}
    assert sum(gradients[f"score{stride}"] for stride in STRIDES) > 0
    assert not any(value for name, value in gradients.items() if not name.startswith("score"))


def make_outputs(side, images=1):
    """Nine maps of zeros for an image of `side` pixels, NumPy."""
    sides = [-(-side // stride) for stride in STRIDES]
    return [np.zeros((images, channels, n, n), np.float32) for n in sides for channels in CHANNELS.values()]


def losses(outputs, *targets):
    return [float(term.asnumpy()[0]) for term in ESSH(width=8).loss(nd, [nd.array(each) for each in outputs], *targets)]


def test_the_loss_of_a_case_worked_out_by_hand():
    outputs = make_outputs(32)  # maps of 1, 2 and 4 places: 2 + 8 + 32 anchors
    outputs[0][0, :, 0, 0] = [1, 0, -1, 0]  # the first anchor says background by 2
    outputs[1][0, :4, 0, 0] = [0.5, 0.5, 0.51, 2.5]  # of its targets of 0.5: off by 0, 0, 0.01 and 2
    said, box, landmarks = losses(outputs, *make_targets(1, 32, [(0, 0, 2)]))
    # One face, and MIN_NEGATIVES backgrounds at log 2 each.
    assert said == pytest.approx((np.log1p(np.exp(2)) + MIN_NEGATIVES * np.log(2)) / (1 + MIN_NEGATIVES), rel=1e-5)
    # Smooth L1 that is straight from 1/64 on: 32 x^2 and x - 1/128.
    assert box == pytest.approx(32 * 0.01**2 + 2 - 1 / 128, rel=1e-5)
    assert landmarks == pytest.approx(10 * (0.5 - 1 / 128), rel=1e-5)


def test_the_hardest_backgrounds_are_learnt_from_three_for_each_face():
    side = 64
    anchors = count_anchors(side)
    faces = [(0, 8 + anchor, 1) for anchor in range(10)]  # among those of stride 16: 3 * 10 > MIN_NEGATIVES
    outputs = make_outputs(side)
    outputs[6][0, :2] = 50  # stride 8 is sure of background ...
    outputs[6][0, 2:, 0, :] = 100  # ... but for a row of eight places, which are sure of a face at both anchors
    said, _, landmarks = losses(outputs, *make_targets(1, side, faces))
    others = anchors - 128 - 10  # backgrounds of strides 32 and 16, at log 2
    hard = 2 * 8
    assert NEGATIVES * 10 - hard <= others
    expected = (10 * np.log(2) + hard * 50 + (NEGATIVES * 10 - hard) * np.log(2)) / (10 + NEGATIVES * 10)
    assert said == pytest.approx(expected, rel=1e-5)
    assert landmarks == 0, "faces without known landmarks"


def test_what_is_neither_face_nor_background_teaches_nothing():
    outputs = make_outputs(32)
    outputs[6][0, 2:] = 100  # wrong about all of stride 8, all of which is ignored
    targets = make_targets(1, 32, [(0, anchor, -1) for anchor in range(10, 42)])
    said, box, landmarks = losses(outputs, *targets)
    assert said == pytest.approx(np.log(2), rel=1e-5) and (box, landmarks) == (0, 0)


def test_an_images_loss_does_not_depend_on_its_neighbours():
    network, side = build(), 64
    outputs = [output.detach() for output in answer(network, 2, side)]
    targets = make_targets(2, side, [(0, 5, 2), (1, 60, 2), (1, 61, 1)])
    together = [term.asnumpy() for term in network.loss(nd, outputs, *targets)]
    for image in range(2):
        part = slice(image, image + 1)
        alone = network.loss(nd, [each[part] for each in outputs], *[each[part] for each in targets])
        np.testing.assert_allclose([term.asnumpy()[0] for term in alone], [t[image] for t in together], rtol=1e-5)


def test_anchors_of_the_loss_are_in_the_order_of_lay_anchors():
    from agedge.faces.essh.anchors import lay_anchors

    side = 64
    boxes = np.concatenate([lay_anchors(stride, side // stride, side // stride) for stride in STRIDES])
    assert len(boxes) == count_anchors(side)
    # The second anchor of stride 16 at row 1, column 2: squares of 64 pixels.
    wanted = 8 + 16 + 1 * 4 + 2
    assert boxes[wanted].tolist() == [-24 + 32, -24 + 16, 39 + 32, 39 + 16]
    outputs = make_outputs(side)
    outputs[4][0, 4:8, 1, 2] = 0.5  # box deltas: just that anchor's are what the targets want
    assert losses(outputs, *make_targets(1, side, [(0, wanted, 1)]))[1] == 0
    assert losses(outputs, *make_targets(1, side, [(0, wanted + 1, 1)]))[1] > 0


def test_a_few_steps_lower_the_loss():
    network, side = build(), 64
    data = nd.random.uniform(0, 255, (2, 3, side, side))
    targets = make_targets(2, side, [(0, 5, 2), (1, 60, 2), (1, 61, 1)])
    trainer = gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 0.005})
    history = []
    for _ in range(12):
        with autograd.record():
            loss = sum(network.loss(nd, network(data), *targets)).mean()
        loss.backward()
        trainer.step(1)
        history.append(loss.asscalar())
    assert np.isfinite(history).all() and history[-1] < 0.5 * history[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"body": "resnet"}, "body=resnet: choose one of mobilenet025, vgg16"),
        ({"width": 6}, "width=6: must be a multiple of 4, at least 8"),
        ({"width": 30}, "width=30: must be a multiple of 4"),
        ({"width": "64"}, "width=64: must be a multiple of 4"),
        ({"width": True}, "width=True: must be a multiple of 4"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ESSH(**arguments)


@pytest.mark.slow
def test_the_vgg16_form_has_the_same_maps():
    network = build(body="vgg16")
    outputs = network(nd.random.uniform(0, 255, (1, 3, 100, 76)))
    assert [output.shape for output in outputs[::3]] == [(1, 4, 4, 3), (1, 4, 7, 5), (1, 4, 13, 10)]
    assert network.slim()(nd.zeros((1, 3, 64, 64)))[0].shape == (1, 4, 2, 2)

"""ESSH inference: whatever checkpoint of the family lies in the folder, and images of any size and kind."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading

import mxnet as mx
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.faces.detection import create_detector
from agedge.faces.essh import network, views
from agedge.faces.essh.anchors import find_candidates
from agedge.faces.essh.detector import choose_faces, keep_largest
from agedge.runtime.mxnet_executors import count_pixels
from tests.faces.essh.essh_checkpoints import (
    WORD,
    block_symbol,
    block_weights,
    draw_blocks,
    foreign_symbol,
    random_weights,
    write,
    write_card,
    write_random,
)  # fmt: skip


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """The folder of a checkpoint that finds blocks: its answer is known to the pixel."""
    return write(tmp_path_factory.mktemp("blocks"), block_symbol(), block_weights())


@pytest.fixture(scope="module")
def detector(blocks):
    return create_detector("essh", folder=blocks)


def as_box(x, y, side=64):
    return [x, y, x + side, y + side]


def test_a_box_is_where_its_face_is(detector):
    faces = detector.detect(draw_blocks(443, 640, (56, 104), (360, 296)))
    assert sorted(faces.boxes.tolist()) == [as_box(56, 104), as_box(360, 296)]
    np.testing.assert_allclose(np.sort(faces.landmarks[:, 0, 0]), [56 + 31.5, 360 + 31.5])  # centres of pixels
    assert faces.scores.min() > 0.99 and (np.diff(faces.scores) <= 0).all()
    assert all(array.dtype == np.float32 for array in (faces.boxes, faces.scores, faces.landmarks))


@pytest.mark.parametrize("shape", [(130, 130), (161, 511), (300, 513), (443, 640), (641, 300)])
def test_padding_moves_nothing(detector, shape):
    assert detector.detect(draw_blocks(*shape, (24, 24))).boxes.tolist() == [as_box(24, 24)]


def test_sides_are_padded_a_little_to_a_few_lengths():
    sides = np.arange(1, 1281)
    padded = np.array([views.pad_side(int(side)) for side in sides])
    assert (padded >= sides).all() and (padded % 32 == 0).all() and len(set(padded)) == 25
    assert (padded - sides <= np.maximum(63, sides / 8)).all()
    assert [views.pad_side(side) for side in (443, 640, 886, 1280, 1281)] == [448, 640, 896, 1280, 1408]


def test_a_large_image_is_shrunk_and_its_boxes_are_not(detector):
    faces = create_detector("essh", folder=detector.folder, max_side=640).detect(
        draw_blocks(900, 1280, (2 * 56, 2 * 104), side=128)
    )
    assert faces.boxes.tolist() == [as_box(112, 208, 128)]
    np.testing.assert_allclose(faces.landmarks[0, 0], [112 + 63.5, 208 + 63.5])


def test_faces_too_large_for_the_anchors_come_from_an_overview(tmp_path):
    folder = write(tmp_path, block_symbol(growth=np.log(2.5)), block_weights())
    image = draw_blocks(480, 640, (4 * 72, 4 * 56), side=256)  # in the overview, a quarter as large, 64
    assert len(create_detector("essh", folder=folder).detect(image)) == 0  # nothing hints at it
    image[24:88, 24:88] = 255  # a box of 160 pixels is such a hint
    small, large = [0, 0, 136, 136], [416 - 320, 352 - 320, 640, 480]
    boxes = {
        scales: create_detector("essh", folder=folder, pyramid=scales).detect(image).boxes for scales in (None, (1,))
    }
    np.testing.assert_allclose(boxes[(1,)], [small], atol=1e-3)
    np.testing.assert_allclose(np.sort(boxes[None], axis=0), np.sort([small, large], axis=0), atol=1e-3)


def test_a_box_too_large_for_the_view_is_left_to_the_overview(tmp_path):
    folder = write(tmp_path, block_symbol(growth=np.log(4)), block_weights())
    image = draw_blocks(480, 640, (200, 168))  # a box of 256 pixels about it; in the overview the block is too small
    assert len(create_detector("essh", folder=folder, pyramid=(1,)).detect(image)) == 1
    assert len(create_detector("essh", folder=folder).detect(image)) == 0


def test_a_pyramid_runs_at_its_scales_only(blocks):
    image = draw_blocks(500, 600, (56, 104))
    image[240:368, 368:496] = 255  # 128 pixels: at half the size a block of 64
    boxes = {
        scales: sorted(create_detector("essh", folder=blocks, pyramid=scales).detect(image).boxes.tolist())
        for scales in ((1,), (0.5,), (1, 0.5))
    }
    small, large = as_box(56, 104), as_box(368, 240, 128)
    assert boxes == {(1,): [small], (0.5,): [large], (1, 0.5): [small, large]}


def test_min_face_and_max_faces(blocks):
    image = draw_blocks(300, 500, (24, 24), (280, 152))
    for options, count in (({}, 2), ({"max_faces": 1}, 1), ({"min_face": 64}, 2), ({"min_face": 65}, 0)):
        assert len(create_detector("essh", folder=blocks, **options).detect(image)) == count
    assert len(create_detector("essh", folder=blocks).detect_batch([image], 65)[0]) == 0


def test_of_too_many_the_largest_are_kept_in_order_of_their_scores():
    boxes = np.array([(0, 0, 10, 10), (50, 0, 90, 40), (0, 50, 30, 80)], float)
    faces = choose_faces((100, 100), boxes, np.array([0.9, 0.6, 0.7]), np.zeros((3, 5, 2)), 0)
    faces = keep_largest(faces, 2)
    assert faces.boxes[:, 0].tolist() == [0, 50] and faces.scores.round(1).tolist() == np.float32([0.7, 0.6]).tolist()


def test_boxes_end_at_the_image(tmp_path):
    folder = write(tmp_path, block_symbol(growth=np.log(3)), block_weights())
    detector = create_detector("essh", folder=folder)
    boxes = detector.detect(draw_blocks(150, 220, (24, 24), (148, 60))).boxes
    assert len(boxes) and (boxes >= 0).all() and (boxes <= [220, 150, 220, 150]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_what_lies_outside_or_is_no_number_is_no_face():
    inside, outside, flat = (10, 10, 30, 30), (120, 10, 140, 30), (0, 40, 100, 40)
    boxes = np.array([inside, outside, flat, (np.nan, 0, 9, 9), (50, 50, 70, 70)], float)
    landmarks = np.zeros((5, 5, 2))
    landmarks[4] = 1e300
    faces = choose_faces((100, 100), boxes, np.full(5, 0.9), landmarks, 0)
    assert faces.boxes.tolist() == [list(inside)]


def test_a_batch_gives_the_faces_of_single_images(detector):
    images = [draw_blocks(200, 200, (24, 24)), draw_blocks(200, 210, (104, 88)), draw_blocks(443, 640, (360, 296))]
    images += [np.zeros((1, 1, 3), np.uint8), draw_blocks(210, 220, (88, 104))] + images[:2] * 3
    together = detector.detect_batch(images)
    for image, faces in zip(images, together):
        alone = detector.detect(image)
        np.testing.assert_array_equal(faces.boxes, alone.boxes)
        np.testing.assert_allclose(faces.scores, alone.scores, atol=1e-6)
    assert [len(faces) for faces in together] == [1, 1, 1, 0, 1] + [1] * 6
    assert detector.detect_batch([]) == []


def test_images_of_one_shape_share_a_network_run(detector, monkeypatch):
    shapes = []
    monkeypatch.setattr(network.ESSHNetwork, "run", lambda self, shape: shapes.append(shape) or _no_faces(shape))
    detector.detect_batch([np.zeros((100, 100, 3), np.uint8)] * 7 + [np.zeros((1200, 900, 3), np.uint8)] * 2)
    assert shapes[:2] == [(1, 3, 1280, 960)] * 2 and [shape[0] for shape in shapes[2:]] == [4, 2, 1]
    assert all(np.prod(shape) / 3 <= max(views.BATCH_PIXELS, 1280 * 960) for shape in shapes)


def _no_faces(shape):
    count, _, height, width = shape
    return [np.zeros((count, channels, height // s, width // s)) for s in (32, 16, 8) for channels in (4, 8, 20)]


def test_colours_are_rgb_less_the_mean_of_the_card(tmp_path):
    folder = write(tmp_path, block_symbol(), block_weights((1, 0, 0)))
    red, blue = (draw_blocks(300, 300, (24, 24), colour=colour) for colour in ((0, 0, 255), (255, 0, 0)))
    found = {}
    for mean in (None, (100, 0, 0), (0, 0, 100), (-0.5, 0, 0)):
        if mean:
            write_card(folder, mean)
        detector = create_detector("essh", folder=folder)
        found[mean] = len(detector.detect(red)), len(detector.detect(blue))
    assert found == {None: (1, 0), (100, 0, 0): (0, 0), (0, 0, 100): (1, 0), (-0.5, 0, 0): (1, 0)}


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2000), (2000, 3), (31, 33), (3000, 4000)])
def test_any_size_is_legal(detector, shape):
    faces = detector.detect(np.full((*shape, 3), 30, np.uint8))
    assert len(faces) == 0 and faces.landmarks.shape == (0, 5, 2)


def test_other_kinds_of_images(detector):
    image = draw_blocks(300, 300, (24, 24))
    alpha = np.dstack([image, np.full((300, 300), 9, np.uint8)])
    turned = draw_blocks(300, 300, (212, 24))[:, ::-1]  # not contiguous
    kinds = [
        image,
        image[..., 0],
        image[..., :1],
        alpha,
        image.astype(np.uint16) * 257,
        turned,
        np.asfortranarray(image),
    ]
    for kind in kinds:
        assert detector.detect(kind).boxes.tolist() == [as_box(24, 24)]
    assert len(detector.detect(np.zeros((0, 5, 3), np.uint8))) == 0
    with pytest.raises(UsageError, match="float64"):
        detector.detect(image / 255)


def test_the_shipped_network_is_run_as_it_was_built(tmp_path):
    detector = create_detector("essh", folder=write_random(tmp_path), threshold=0.6, pyramid=(1,))
    image = np.random.RandomState(3).randint(0, 256, (128, 160, 3)).astype(np.uint8)  # a shape that needs no padding
    block = mx.gluon.SymbolBlock.imports(str(tmp_path / WORD["symbol"]), ["data"], str(tmp_path / WORD["params"]))
    maps = block(mx.nd.array(image[..., ::-1].transpose(2, 0, 1)[None]))
    (boxes, scores, landmarks), = find_candidates([each.asnumpy() for each in maps], 0.6)  # fmt: skip
    expected = choose_faces(image.shape, boxes + (0, 0, 1, 1), scores, landmarks, 0)
    found = detector.detect(image)
    assert len(expected) >= 1
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-2)


RENAMED = {
    "without prefixes": lambda name: name[4:],
    "running": lambda name: name.replace("moving_", "running_"),
    "all args": lambda name: "arg:" + name[4:],
    "mixed up": lambda name: {"arg:": "aux:", "aux:": "arg:"}[name[:4]] + name[4:],
}


@pytest.mark.parametrize("how", RENAMED)
def test_names_of_weights_may_be_another_trainers(tmp_path, how):
    params = {RENAMED[how](name): value for name, value in block_weights().items()}
    params["arg:label_of_nothing"] = np.zeros(3)
    write(tmp_path, block_symbol(), params)
    assert create_detector("essh", folder=tmp_path).detect(draw_blocks(300, 300, (24, 24))).boxes.tolist() == [
        as_box(24, 24)
    ]


@pytest.mark.parametrize("ceil", [False, True])
def test_a_foreign_network_runs_by_the_order_of_its_outputs(tmp_path, ceil):
    symbol = foreign_symbol(ceil=ceil)
    assert any("label" in name for name in symbol.list_arguments())
    weights = random_weights(symbol)
    write(tmp_path, symbol, {f"arg:{name}": value for name, value in weights.items()})
    detector = create_detector("essh", folder=tmp_path, threshold=0.5)
    image = np.random.RandomState(3).randint(0, 256, (150, 170, 3)).astype(np.uint8)
    faces = detector.detect(image)
    assert len(faces) and np.isfinite(faces.landmarks).all()
    assert (faces.boxes >= 0).all() and (faces.boxes <= [170, 150, 170, 150]).all()


def test_maps_may_be_rounded_down_or_up(tmp_path):
    found = []
    for rounding in ("valid", "full"):
        folder = tmp_path / rounding
        folder.mkdir()
        write(folder, block_symbol(rounding=rounding), block_weights())
        found.append(create_detector("essh", folder=folder).detect(draw_blocks(300, 300, (24, 24))).boxes.tolist())
    assert found[0] == found[1] == [as_box(24, 24)]


@pytest.mark.parametrize("name", WORD.values())
def test_a_missing_file_is_named_at_once(blocks, tmp_path, name):
    folder = shutil.copytree(blocks, tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(AgedgeError, match=rf"{name}: missing"):
        create_detector("essh", folder=folder)


def complaint(folder) -> str:
    with pytest.raises(AgedgeError) as raised:
        create_detector("essh", folder=folder).detect(np.zeros((64, 64, 3), np.uint8))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_damaged_files_are_named(blocks, tmp_path):
    folder = shutil.copytree(blocks, tmp_path / "copy")
    params, symbol = folder / WORD["params"], folder / WORD["symbol"]
    whole = params.read_bytes()
    for content in (b"", whole[:100], whole[:-3], b"no parameters"):
        params.write_bytes(content)
        assert WORD["params"] in complaint(folder)
    params.write_bytes(whole)
    graph = symbol.read_bytes()
    for content in (b"", graph[:200], b"{}", b"\xff\xfe"):
        symbol.write_bytes(content)
        assert WORD["symbol"] in complaint(folder)


def test_a_file_that_is_not_the_cards_is_named(blocks, tmp_path):
    folder = shutil.copytree(blocks, tmp_path / "copy")
    write_card(folder)
    content = bytearray((folder / WORD["params"]).read_bytes())
    content[-20] ^= 1
    (folder / WORD["params"]).write_bytes(content)
    said = complaint(folder)
    assert WORD["params"] in said and "SHA-256" in said


def test_weights_that_do_not_fit_are_named(tmp_path):
    for change, reason in (
        ({"aux:norm_moving_var": None}, "1 weights of essh-symbol.json are missing, such as norm_moving_var"),
        ({"arg:grey_weight": np.ones((2, 3, 1, 1))}, "grey_weight is (2, 3, 1, 1)"),
        ({"arg:grey_weight": np.full((1, 3, 1, 1), np.nan)}, "grey_weight is not finite"),
    ):
        weights = {name: value for name, value in {**block_weights(), **change}.items() if value is not None}
        said = complaint(write(tmp_path, block_symbol(), weights))
        assert said.startswith(str(tmp_path / WORD["params"])) and reason in said


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"dropped": 1}, "8 outputs"),
        ({"channels": (4, 8, 10)}, r"output kps_p32_output is (1, 10, 20, 20); must be (1, 20, 20, 20)"),
        ({"channels": (2, 8, 20)}, "output cls_p32_output is (1, 2, 20, 20)"),
    ],
)
def test_a_network_of_another_family_is_refused(tmp_path, options, reason):
    symbol = foreign_symbol(**options)
    said = complaint(write(tmp_path, symbol, {f"arg:{name}": each for name, each in random_weights(symbol).items()}))
    assert said.startswith(str(tmp_path / WORD["symbol"])) and reason in said


def test_an_input_beside_the_image_is_named(tmp_path):
    outputs = list(block_symbol())
    symbol = mx.sym.Group([mx.sym.broadcast_add(outputs[0], 0 * mx.sym.max(mx.sym.var("im_info"))), *outputs[1:]])
    assert complaint(write(tmp_path, symbol, block_weights())).endswith("as im_info")


@pytest.mark.parametrize(
    "option, value",
    [("threshold", 0), ("threshold", 1.5), ("min_face", -1), ("min_face", float("nan")), ("max_faces", 0)]
    + [("max_side", 10), ("pyramid", ()), ("pyramid", (1, 0)), ("pyramid", ("half",)), ("pyramid", 2)]
    + [("threshold", "high"), ("min_face", "small"), ("max_faces", 1.5), ("max_side", "wide")],
)
def test_impossible_options_are_named(blocks, option, value):
    with pytest.raises(UsageError, match=option):
        create_detector("essh", folder=blocks, **{option: value})
    if option == "min_face":
        with pytest.raises(UsageError, match=option):
            create_detector("essh", folder=blocks).detect_batch([], value)


def test_few_shapes_are_kept_whatever_the_images(detector):
    for _ in range(25):
        height, width = np.random.randint(30, 900, 2)
        detector.detect(np.zeros((height, width, 3), np.uint8))
        pool = detector.load().runner
        others = [shape for shape in pool.executors if shape != pool.owner]
        assert sum(map(count_pixels, others)) <= network.KEPT_PIXELS


def test_a_large_shape_is_bound_once_whatever_ran_before(detector):
    detector.detect(np.zeros((960, 1280, 3), np.uint8))
    bound = []
    for _ in range(3):
        for shape in ((886, 1280, 3), (160, 224, 3)):
            detector.detect(np.zeros(shape, np.uint8))
        bound.append([*detector.load().runner.executors.values()])
    assert bound[0] == bound[1] == bound[2] and len(bound[0]) == 2


def test_parts_of_a_large_face_are_no_faces():
    large, part, beside, small = [0, 0, 100, 100], [10, 10, 60, 60], [60, 60, 115, 115], [20, 80, 60, 120]
    boxes = np.array([large, part, beside, small], float)
    for surest, left in ((0.99, [large, beside, small]), (0.6, [large, part, beside, small])):
        faces = choose_faces((120, 120), boxes, np.array([surest, 0.8, 0.7, 0.5]), np.zeros((4, 5, 2)), 0)
        assert sorted(faces.boxes.tolist()) == sorted(left), surest


def test_threads_take_turns(detector):
    images = [draw_blocks(200 + 40 * k, 300, (24, 24)) for k in range(6)]
    expected, found = [detector.detect(image).boxes.tolist() for image in images], {}

    def work(number):
        for _ in range(5):
            found[number] = detector.detect(images[number]).boxes.tolist()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(6)] == expected


def detect_boxes(task) -> list:
    detector, image = task
    return detector.detect(image).boxes.tolist()


def test_it_works_in_another_process(detector):
    image = draw_blocks(300, 300, (24, 24))
    detector.detect(image)
    assert pickle.loads(pickle.dumps(detector))._processes == {}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(detect_boxes, ((detector, image),)).get(timeout=60) == [as_box(24, 24)]


FORK = """
import multiprocessing, sys
import numpy as np
from agedge.faces.detection import create_detector

image = np.zeros((300, 300, 3), np.uint8)
image[24:88, 24:88] = 255
detector = create_detector("essh", folder=sys.argv[1])
assert len(detector.detect(image)) == 1

def work(image):
    try:
        return detector.detect(image).boxes.tolist()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

own = detector.in_this_process()
with own.lock, multiprocessing.get_context("fork").Pool(1) as pool:  # as if a thread were at work
    print(pool.apply_async(work, (image,)).get(timeout=30))
"""


@pytest.mark.parametrize("threads, answer", [(1, "[[24.0, 24.0, 88.0, 88.0]]"), (2, "AgedgeError")])
def test_a_forked_process_loads_its_own_network_or_refuses(blocks, threads, answer):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    ran = subprocess.run([sys.executable, "-c", FORK, str(blocks)], env=environment, capture_output=True, timeout=60)
    assert ran.stdout.decode().startswith(answer), ran.stderr.decode()
    assert threads == 1 or b"spawn" in ran.stdout


def test_the_threshold_is_the_cards_unless_another_is_given(tmp_path):
    folder = write_random(tmp_path)
    assert create_detector("essh", folder=folder).threshold == 0.5
    write_card(folder, threshold=0.6)
    assert create_detector("essh", folder=folder).threshold == 0.6
    assert create_detector("essh", folder=folder, threshold=0.3).threshold == 0.3

"""Transforms of training faces: drawn within the recipe's limits, and each pixel where it belongs."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from agedge.training.data import augment
from agedge.training.data.augment import LUMA, apply_transforms, draw_transforms, warp, warp_numpy
from agedge.training.recipe import AugmentSection

ALL = AugmentSection(
    mirror=0.5, rotate=40, shear=0.2, scale=0.3, shift=0.2, brightness=0.4, contrast=0.4, saturation=0.5, noise=0.3,
    blur=0.3, jpeg=0.3, cutout=0.3, grey=0.3,
)  # fmt: skip
RNG = np.random.default_rng(0)
FACE = cv2.resize(RNG.integers(0, 256, (8, 8, 4), np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)


def transform(n=1, face=FACE, **augment):
    """Return n transformed copies of a face, (n, 3, S, S), and their transforms."""
    transforms = draw_transforms(AugmentSection(**augment), n, len(face), np.random.default_rng(1))
    out = np.full((n, 3, *face.shape[:2]), np.nan, np.float32)
    apply_transforms(transforms, face[None], np.zeros(n, np.int64), out)
    return out, transforms


def planes(face):
    return face[..., 2::-1].transpose(2, 0, 1).astype(np.float32)


@pytest.mark.skipif(augment._augment is None, reason="the Cython extension is not built in this installation")
@pytest.mark.parametrize("size", [1, 2, 3, 7, 31, 112, 600])
def test_compiled_and_numpy_give_the_same_bits(size):
    rng = np.random.default_rng(size)
    pool, rows = rng.integers(0, 256, (4, size, size, 4), np.uint8), np.array([3, 0, -1, 1, 3])
    transforms = draw_transforms(ALL, 5, size, rng)
    transforms.matrices[0, 0], transforms.matrices[4, 2] = np.nan, 1e30
    outs = np.full((2, 5, 3, size, size), 7, np.float32)
    for function, out in zip((warp, warp_numpy), outs):
        function(pool, rows, transforms.matrices, transforms.colours, out)
    assert (outs[0].view(np.int32) == outs[1].view(np.int32)).all()
    assert (outs[:, 2] == 7).all(), "a negative row is left alone"
    assert outs.min() >= 0 and outs.max() <= 255


def test_without_the_compiled_module_numpy_is_used():
    code = (
        "import sys; sys.modules['agedge.training.data._augment'] = None;"
        "import numpy as np; from agedge.training.data import augment; assert augment._augment is None;"
        "from agedge.training.recipe import AugmentSection;"
        "one = augment.draw_transforms(AugmentSection(), 1, 8, np.random.default_rng(0));"
        "out = np.zeros((1, 3, 8, 8), np.float32);"
        "augment.apply_transforms(one, np.full((1, 8, 8, 4), 9, np.uint8), np.zeros(1, np.int64), out);"
        "assert (out == 9).all()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arrays_of_wrong_shapes_are_refused():
    pool, one = FACE[None], draw_transforms(AugmentSection(), 1, 48, RNG)
    out = np.empty((1, 3, 48, 48), np.float32)
    with pytest.raises(IndexError):
        warp(pool, np.array([1]), one.matrices, one.colours, out)
    for wrong in (out[:, :2], out[:, :, 1:], np.empty((2, 3, 48, 48), np.float32)):
        with pytest.raises(ValueError):
            warp(pool, np.array([0]), one.matrices, one.colours, wrong)


def test_without_transforms_the_face_comes_out_in_rgb():
    out, transforms = transform(3)
    assert (out == planes(FACE)).all() and not transforms.mirrored.any()


def test_mirrored_faces_are_mirrored_and_marked():
    out, transforms = transform(200, mirror=0.5)
    assert 60 < transforms.mirrored.sum() < 140
    for image, mirrored in zip(out, transforms.mirrored):
        assert (image == (planes(FACE)[:, :, ::-1] if mirrored else planes(FACE))).all()


def test_pixels_are_those_of_opencv_with_replicated_borders():
    out, transforms = transform(6, rotate=30, scale=0.2, shear=0.2, shift=0.1)
    for image, matrix in zip(out, transforms.matrices):
        wanted = cv2.warpAffine(
            FACE.astype(np.float32), matrix.reshape(2, 3).astype(np.float64), (48, 48), None,
            cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE,
        )  # fmt: skip
        assert np.abs(image - planes(wanted)).max() < 255 / 32 + 1  # OpenCV counts in 1/32 of a pixel
        assert np.abs(image - planes(wanted)).mean() < 1


@pytest.mark.parametrize("key, value", [("rotate", 12), ("scale", 0.1), ("shear", 0.2), ("shift", 0.04)])
def test_geometry_stays_within_the_recipe_and_uses_all_of_it(key, value):
    matrices = draw_transforms(AugmentSection(**{key: value}), 4000, 101, RNG).matrices.reshape(-1, 2, 3)
    linear, middle = matrices[:, :, :2], matrices @ (50, 50, 1) - 50
    root = np.sqrt(np.linalg.det(linear))
    found = {
        "rotate": np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0])),
        "scale": 1 / root - 1,
        "shear": linear[:, 0, 1] if key == "shear" else np.zeros(1),
        "shift": middle / 101,
    }
    for name, values in found.items():
        if name == key:
            assert -value - 1e-4 < values.min() < -0.95 * value and 0.95 * value < values.max() < value + 1e-4
            assert abs(values.mean()) < 0.05 * value
        else:
            assert np.abs(values).max() < 1e-4, name


def test_colours():
    flat = np.zeros((4, 4, 4), np.uint8)
    flat[...] = (40, 100, 160, 255)  # blue, green, red
    rgb = np.array([160, 100, 40])
    seen = {
        key: transform(2000, flat, **{key: 0.4})[0][:, :, 0, 0]
        for key in ("brightness", "contrast", "saturation", "noise", "grey")
    }
    ratio = seen["brightness"] / rgb
    assert np.ptp(ratio, axis=1).max() < 1e-4 and 0.6 <= ratio.min() < 0.62 and 1.38 < ratio.max() <= 1.4001
    ratio = (seen["contrast"] - 127.5) / (rgb - 127.5)
    assert np.ptp(ratio, axis=1).max() < 1e-4 and 0.6 <= ratio.min() + 1e-4 < 0.62 and 1.38 < ratio.max() <= 1.4001
    luma = LUMA @ rgb
    assert np.abs(seen["saturation"] @ LUMA - luma).max() < 1e-3
    ratio = (seen["saturation"] - luma) / (rgb - luma)
    assert np.ptp(ratio, axis=1).max() < 1e-3 and 0.6 <= ratio.min() + 1e-3 < 0.62 and 1.38 < ratio.max() <= 1.401
    spread = np.cov((seen["noise"] - rgb).T)
    assert np.sqrt(np.linalg.eigvalsh(spread))[::-1] == pytest.approx([0.4 * 55.46, 0.4 * 4.794, 0.4 * 1.148], rel=0.08)
    is_grey = np.ptp(seen["grey"], axis=1) < 1e-3
    assert 0.35 < is_grey.mean() < 0.45
    assert seen["grey"][is_grey] == pytest.approx(luma, abs=1e-3) and (seen["grey"][~is_grey] == rgb).all()


def test_blurred_faces_are_smoother_and_the_pool_stays_as_it_is():
    sharp = np.random.default_rng(2).integers(0, 256, (112, 112, 4), np.uint8)
    before = sharp.copy()
    out, transforms = transform(40, sharp, blur=0.5)
    blurred = transforms.blurs > 0
    assert 10 < blurred.sum() < 30 and (sharp == before).all()
    assert (transforms.blurs[blurred] >= 0.5).all() and transforms.blurs.max() <= 2
    for image, is_blurred in zip(out, blurred):
        assert image.std() < 60 if is_blurred else (image == planes(sharp)).all()
    assert transform(40, FACE, blur=1)[1].blurs.max() <= 2 * 48 / 112


def test_faces_compressed_again_lose_detail_but_not_much():
    out, transforms = transform(20, np.ascontiguousarray(FACE), jpeg=1)
    assert transforms.qualities.min() >= 30 and transforms.qualities.max() <= 90
    error = np.abs(out - planes(FACE)).mean(axis=(1, 2, 3))
    assert error.min() > 0.2 and error.max() < 25
    assert np.corrcoef(error, transforms.qualities)[0, 1] < -0.5


def test_hidden_rectangles_are_grey_and_inside():
    white = np.full((100, 100, 4), 255, np.uint8)
    out, transforms = transform(60, white, cutout=0.5)
    hidden = out[:, 0] == 127
    assert ((out == 127) | (out == 255)).all() and 15 < hidden.any(axis=(1, 2)).sum() < 45
    for image, (left, top, right, bottom) in zip(hidden, transforms.cutouts):
        assert image.sum() == (right - left) * (bottom - top) and image[top:bottom, left:right].all()
        assert right == 0 or 20 <= right - left <= 50 and 20 <= bottom - top <= 50


def test_selected_transforms_give_the_same_faces():
    pool, rows = RNG.integers(0, 256, (6, 32, 32, 4), np.uint8), np.arange(6)
    transforms = draw_transforms(ALL, 6, 32, np.random.default_rng(3))
    whole, part = (np.empty((n, 3, 32, 32), np.float32) for n in (6, 3))
    apply_transforms(transforms, pool, rows, whole)
    apply_transforms(transforms.select(slice(3, 6)), pool, rows[3:], part)
    assert (whole[3:] == part).all()

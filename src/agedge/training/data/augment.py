"""Random transforms of training faces: drawn for a whole batch, then applied in one pass over the pixels.

Rotation, scale, shear, shift and mirroring are one affine matrix per face; brightness, contrast, saturation, noise and
grey are one colour matrix. They are applied by the compiled `_augment.pyx` or, if it is not built, much more slowly by
NumPy, with bit-identical results.
"""

import dataclasses
import importlib
import logging
from typing import Any, Union

import cv2
import numpy as np

from agedge.records import decode, encode
from agedge.training.recipe import AugmentSection
from agedge.value_equality import compare_by_value

BLUR = (0.5, 2.0)  # range of the Gaussian's sigma, in pixels of a face of 112
QUALITY = (30, 90)  # range of the JPEG quality
CUTOUT = (0.2, 0.5)  # range of the sides of the hidden rectangle, as shares of the face's side
HIDDEN = 127  # grey level of the hidden rectangle
PIVOT = 127.5  # grey level that contrast does not change; in ImageRecordIter it is the mean of each face
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in ImageRecordIter
# Principal components of ImageNet's colours, RGB, as in ImageRecordIter.
EIGENVALUES = np.array([55.46, 4.794, 1.148])
EIGENVECTORS = np.array([(-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203)])


@compare_by_value
@dataclasses.dataclass(frozen=True)
class Transforms:
    """The transforms of n faces.

    `matrices` (n, 6) float32: two rows of three that map (x, y, 1) of the result to a point of the source;
    `colours` (n, 12) float32: three rows of four that map (R, G, B, 1) to RGB;
    `mirrored` (n,) bool: which faces are mirrored (by their matrices);
    `blurs` (n,) float32: sigmas in pixels, 0 for none;
    `qualities` (n,) int64: JPEG qualities, 0 for none;
    `cutouts` (n, 4) int64: x1, y1, x2, y2 of the hidden rectangle, all 0 for none.
    """

    matrices: np.ndarray
    colours: np.ndarray
    mirrored: np.ndarray
    blurs: np.ndarray
    qualities: np.ndarray
    cutouts: np.ndarray

    def select(self, chosen: Union[slice, np.ndarray]) -> "Transforms":
        """Return the transforms of some of the faces."""
        return Transforms(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def draw_transforms(augment: AugmentSection, n: int, size: int, rng: np.random.Generator) -> Transforms:
    """Draw the transforms of n faces of `size` pixels.

    The number of random values drawn does not depend on the values of `augment`.
    """
    mirrored = rng.random(n) < augment.mirror
    matrices = _draw_matrices(augment, mirrored, size, rng)
    colours = _draw_colours(augment, n, rng)
    blurs = np.where(rng.random(n) < augment.blur, rng.uniform(*BLUR, n) * (size / 112), 0)
    qualities = np.where(rng.random(n) < augment.jpeg, rng.integers(QUALITY[0], QUALITY[1] + 1, n), 0)
    sides = np.rint(rng.uniform(*CUTOUT, (n, 2)) * size).astype(np.int64)
    corners = np.floor(rng.random((n, 2)) * (size - sides + 1)).astype(np.int64)
    cutouts = np.concatenate([corners, corners + sides], axis=1) * (rng.random((n, 1)) < augment.cutout)
    return Transforms(matrices, colours, mirrored, blurs.astype(np.float32), qualities, cutouts)


def _draw_matrices(augment: AugmentSection, mirrored: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (n, 6) float32: rotation, scale, shear and shift about the centre, each uniform around no change; then
    mirror the faces `mirrored` (n,)."""
    n = len(mirrored)
    angle, shear, scale, right, down = rng.uniform(-1, 1, (5, n))
    angle = np.deg2rad(angle * augment.rotate)
    shear, scale = shear * augment.shear, 1 + scale * augment.scale
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    linear = np.empty((n, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = cos, cos * shear - sin
    linear[:, 1, 0], linear[:, 1, 1] = sin, sin * shear + cos
    linear[:, :, 0] *= np.where(mirrored, -1, 1)[:, None]
    centre = (size - 1) / 2
    shift = np.stack([right, down], axis=1) * (augment.shift * size)
    offset = centre - linear.sum(axis=2) * centre + shift
    return np.concatenate([linear, offset[:, :, None]], axis=2).reshape(n, 6).astype(np.float32)


def _draw_colours(augment: AugmentSection, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (n, 12) float32: brightness, contrast about `PIVOT`, saturation against the luma, and an offset along the
    principal components; for a grey face, the luma of the result."""
    changes = (augment.brightness, augment.contrast, augment.saturation)
    brightness, contrast, saturation = (1 + rng.uniform(-1, 1, n) * most for most in changes)
    offset = (rng.standard_normal((n, 3)) * augment.noise * EIGENVALUES) @ EIGENVECTORS.T
    colours = np.empty((n, 3, 4))
    saturation = saturation[:, None, None]
    colours[:, :, :3] = saturation * np.eye(3) + (1 - saturation) * LUMA
    colours[:, :, :3] *= (brightness * contrast)[:, None, None]
    colours[:, :, 3] = offset + (PIVOT * (1 - contrast))[:, None]
    grey = rng.random(n) < augment.grey
    colours[grey] = LUMA @ colours[grey][:, None]
    return colours.reshape(n, 12).astype(np.float32)


def apply_transforms(transforms: Transforms, pool: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Write the transformed faces `rows` (n,) of `pool` (P, S, S, 4) BGRX uint8 into `out` (n, 3, S, S) RGB 0..255
    float32.

    Pixels are sampled bilinearly, borders are replicated. Faces are blurred first, then compressed as JPEG, then warped
    and recoloured; the rectangle is hidden last. `pool` is not changed.
    """
    degraded = (transforms.blurs > 0) | (transforms.qualities > 0)
    rows = np.ascontiguousarray(rows, np.int64)
    warp(pool, np.where(degraded, -1, rows), transforms.matrices, transforms.colours, out)
    for i in np.flatnonzero(degraded):
        face = _degrade(pool[rows[i]], transforms.blurs[i], transforms.qualities[i])[None]
        one = slice(i, i + 1)
        warp(face, np.zeros(1, np.int64), transforms.matrices[one], transforms.colours[one], out[one])
    for i in np.flatnonzero(transforms.cutouts[:, 2]):
        left, top, right, bottom = transforms.cutouts[i]
        out[i, :, top:bottom, left:right] = HIDDEN


def _degrade(face: np.ndarray, blur: float, quality: int) -> np.ndarray:
    """Return a copy of a face (S, S, 4), blurred by `blur` pixels and compressed at `quality`; 0 skips the step."""
    if blur > 0:
        face = cv2.GaussianBlur(face, (0, 0), float(blur), borderType=cv2.BORDER_REPLICATE)
    if quality > 0:
        decoded = decode(encode(cv2.cvtColor(face, cv2.COLOR_BGRA2BGR), int(quality)))
        assert decoded is not None  # the output of `encode` can be decoded
        face = cv2.cvtColor(decoded, cv2.COLOR_BGR2BGRA)
    return face


def warp_numpy(pool: np.ndarray, rows: np.ndarray, matrices: np.ndarray, colours: np.ndarray, out: np.ndarray) -> None:
    """Warp and recolour faces, in NumPy.

    `rows` (n,) int64 of `pool` (P, S, S, 4) BGRX uint8 are written into `out` (n, 3, S, S) float32, RGB planes;
    `matrices` (n, 6) and `colours` (n, 12) are those of `Transforms`, float32. For a negative row, its part of `out` is
    not changed. Raises `ValueError` for other shapes, `IndexError` for a row that is not in the pool.
    """
    _check(pool, rows, matrices, colours, out)
    size = pool.shape[1]
    x, y = np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32)[:, None]
    last, most = np.float32(size - 1), max(size - 2, 0)
    right, down = (1, size) if size > 1 else (0, 0)
    for row, m, c, planes in zip(rows, matrices, colours, out):
        if row < 0:
            continue
        sx = m[0] * x + (m[1] * y + m[2])
        sy = m[3] * x + (m[4] * y + m[5])
        sx, sy = (np.where(s > 0, s, np.float32(0)) for s in (sx, sy))
        sx, sy = (np.where(s < last, s, last) for s in (sx, sy))
        ix, iy = (np.minimum(s.astype(np.int32), most) for s in (sx, sy))
        u, v = sx - ix.astype(np.float32), sy - iy.astype(np.float32)
        w11 = u * v
        w01, w10 = u - w11, v - w11
        w00 = 1 - u - w10
        at, face = iy * size + ix, pool[row].reshape(-1, 4)[:, :3].astype(np.float32)
        blue, green, red = (
            w00 * plane[at] + w01 * plane[at + right] + w10 * plane[at + down] + w11 * plane[at + right + down]
            for plane in face.T
        )
        for channel in range(3):
            k = c[4 * channel : 4 * channel + 4]
            value = k[0] * red + k[1] * green + k[2] * blue + k[3]
            value = np.where(value > 0, value, np.float32(0))
            planes[channel] = np.where(value < 255, value, np.float32(255))


def warp(pool: np.ndarray, rows: np.ndarray, matrices: np.ndarray, colours: np.ndarray, out: np.ndarray) -> None:
    """Warp and recolour faces like `warp_numpy`, with compiled code if it is built, which releases the GIL."""
    if _augment is None:
        warp_numpy(pool, rows, matrices, colours, out)
    else:
        _check(pool, rows, matrices, colours, out)
        _augment.warp(pool, rows, matrices, colours, out)


def _check(pool: np.ndarray, rows: np.ndarray, matrices: np.ndarray, colours: np.ndarray, out: np.ndarray) -> None:
    n, size = len(rows), pool.shape[1]
    shapes = {"pool": pool.shape[1:], "matrices": matrices.shape, "colours": colours.shape, "out": out.shape}
    expected = {"pool": (size, size, 4), "matrices": (n, 6), "colours": (n, 12), "out": (n, 3, size, size)}
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise ValueError(f"warp: {name} has shape {shape}, must be {expected[name]}")
    if n and rows.max() >= len(pool):
        raise IndexError(f"warp: row {rows.max()} is not in the pool of {len(pool)}")


def _import_compiled() -> Any:
    """Return the compiled module, or None if it is not built."""
    try:
        return importlib.import_module("agedge.training.data._augment")
    except ImportError:
        logging.getLogger(__name__).info("augment: the compiled extension is not built; NumPy is used, more slowly")
        return None


_augment = _import_compiled()

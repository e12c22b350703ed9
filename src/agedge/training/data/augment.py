"""Random changes of training faces: drawn for a whole batch, then all made in one go over the pixels.

Turn, scale, shear, shift and mirror are one affine matrix a face, brightness, contrast, saturation, noise and grey one
colour matrix. The compiled twin of `_augment.pyx` serves where it was built, the NumPy one here elsewhere, far more
slowly; both give the same bits.
"""

import dataclasses
import logging

import cv2
import numpy as np

from agedge.errors import UsageError
from agedge.records import decode, encode
from agedge.value_equality import compare_by_value

# All off.
NO_AUGMENTATION = {
    "mirror": 0.0,  # probability: 0 or 0.5
    "rotate": 0.0,  # degrees to either side
    "shear": 0.0,  # tangent of the angle, to either side
    "scale": 0.0,  # share of the side, larger or smaller
    "shift": 0.0,  # share of the side, to every side
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "noise": 0.0,  # along the colours' principal components (Krizhevsky et al. 2012)
    "blur": 0.0,  # share of the faces that are blurred
    "jpeg": 0.0,  # share that is saved once more as a JPEG of low quality
    "cutout": 0.0,  # share of which a rectangle is hidden (DeVries and Taylor 2017)
    "grey": 0.0,  # share that loses its colours
}
SHARES = ("blur", "jpeg", "cutout", "grey")

BLUR = (0.5, 2.0)  # sigma of the Gaussian, pixels of a face of 112
QUALITY = (30, 90)  # of the JPEG
CUTOUT = (0.2, 0.5)  # sides of the hidden rectangle, of the face's side
HIDDEN = 127  # what is seen there
PIVOT = 127.5  # contrast leaves this grey as it is; ImageRecordIter takes each face's mean
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as ImageRecordIter
# The principal components of ImageNet's colours, RGB, as ImageRecordIter has them.
EIGENVALUES = np.array([55.46, 4.794, 1.148])
EIGENVECTORS = np.array([(-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203)])


def check_augmentation(augment: dict) -> None:
    """Raises `UsageError` on a value that means nothing."""
    if augment["mirror"] not in (0, 0.5):
        raise UsageError(f"augment.mirror={augment['mirror']}: half of the faces are mirrored (0.5) or none (0)")
    for key, value in augment.items():
        if not 0 <= value <= (180 if key == "rotate" else 1 if key in SHARES else 0.9):
            raise UsageError(f"augment.{key}={value}: out of range")


@compare_by_value
@dataclasses.dataclass(frozen=True)
class Changes:
    """What happens to n faces: `matrices` (n, 6) float32 take a place x, y, 1 of the result to one of the source, two
    rows of three; `colours` (n, 12) float32 take RGB, 1 to RGB, three rows of four; `mirrored` (n,) bool, which the
    matrices have in them already; `blurs` (n,) float32 sigmas in pixels, 0 for none; `qualities` (n,) int64 of a JPEG,
    0 for none; `cutouts` (n, 4) int64 x1, y1, x2, y2 of the hidden rectangle, all 0 for none."""

    matrices: np.ndarray
    colours: np.ndarray
    mirrored: np.ndarray
    blurs: np.ndarray
    qualities: np.ndarray
    cutouts: np.ndarray

    def of(self, chosen) -> "Changes":
        """Those of some of the faces, a slice or numbers."""
        return Changes(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def draw(augment: dict, n: int, size: int, rng: np.random.Generator) -> Changes:
    """Changes for n faces of `size` pixels by the shares of `augment`, see `NO_AUGMENTATION`.

    As much chance is taken from `rng` whatever the shares are.
    """
    mirrored = rng.random(n) < augment["mirror"]
    matrices = _draw_matrices(augment, mirrored, size, rng)
    colours = _draw_colours(augment, n, rng)
    blurs = np.where(rng.random(n) < augment["blur"], rng.uniform(*BLUR, n) * (size / 112), 0)
    qualities = np.where(rng.random(n) < augment["jpeg"], rng.integers(QUALITY[0], QUALITY[1] + 1, n), 0)
    sides = np.rint(rng.uniform(*CUTOUT, (n, 2)) * size).astype(np.int64)
    corners = np.floor(rng.random((n, 2)) * (size - sides + 1)).astype(np.int64)
    cutouts = np.concatenate([corners, corners + sides], axis=1) * (rng.random((n, 1)) < augment["cutout"])
    return Changes(matrices, colours, mirrored, blurs.astype(np.float32), qualities, cutouts)


def _draw_matrices(augment: dict, mirrored: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 6) float32: turn, scale, shear and shift about the centre, each uniform to either side, then mirror."""
    n = len(mirrored)
    angle, shear, scale, right, down = rng.uniform(-1, 1, (5, n))
    angle = np.deg2rad(angle * augment["rotate"])
    shear, scale = shear * augment["shear"], 1 + scale * augment["scale"]
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    linear = np.empty((n, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = cos, cos * shear - sin
    linear[:, 1, 0], linear[:, 1, 1] = sin, sin * shear + cos
    linear[:, :, 0] *= np.where(mirrored, -1, 1)[:, None]
    centre = (size - 1) / 2
    shift = np.stack([right, down], axis=1) * (augment["shift"] * size)
    offset = centre - linear.sum(axis=2) * centre + shift
    return np.concatenate([linear, offset[:, :, None]], axis=2).reshape(n, 6).astype(np.float32)


def _draw_colours(augment: dict, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 12) float32: brightness, contrast about `PIVOT`, saturation against the luma, an offset along the principal
    components; and grey, the luma of all that."""
    brightness, contrast, saturation = (
        1 + rng.uniform(-1, 1, n) * augment[key] for key in ("brightness", "contrast", "saturation")
    )
    offset = (rng.standard_normal((n, 3)) * augment["noise"] * EIGENVALUES) @ EIGENVECTORS.T
    colours = np.empty((n, 3, 4))
    saturation = saturation[:, None, None]
    colours[:, :, :3] = saturation * np.eye(3) + (1 - saturation) * LUMA
    colours[:, :, :3] *= (brightness * contrast)[:, None, None]
    colours[:, :, 3] = offset + (PIVOT * (1 - contrast))[:, None]
    grey = rng.random(n) < augment["grey"]
    colours[grey] = LUMA @ colours[grey][:, None]
    return colours.reshape(n, 12).astype(np.float32)


def apply(changes: Changes, pool: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Write the changed faces `rows` (n,) of `pool` (P, S, S, 4) BGRX uint8 into `out` (n, 3, S, S) RGB 0..255 float32.

    Pixels are taken bilinearly, borders replicated. Faces are blurred first, then saved as JPEG, then moved and
    coloured, and at last something is hidden. `pool` stays as it is.
    """
    treated = (changes.blurs > 0) | (changes.qualities > 0)
    rows = np.ascontiguousarray(rows, np.int64)
    warp(pool, np.where(treated, -1, rows), changes.matrices, changes.colours, out)
    for i in np.flatnonzero(treated):
        face = _spoil(pool[rows[i]], changes.blurs[i], changes.qualities[i])[None]
        one = slice(i, i + 1)
        warp(face, np.zeros(1, np.int64), changes.matrices[one], changes.colours[one], out[one])
    for i in np.flatnonzero(changes.cutouts[:, 2]):
        left, top, right, bottom = changes.cutouts[i]
        out[i, :, top:bottom, left:right] = HIDDEN


def _spoil(face: np.ndarray, blur: float, quality: int) -> np.ndarray:
    """A copy of a face (S, S, 4), blurred by a Gaussian of `blur` pixels and saved at `quality`; 0: not."""
    if blur > 0:
        face = cv2.GaussianBlur(face, (0, 0), float(blur), borderType=cv2.BORDER_REPLICATE)
    if quality > 0:
        face = cv2.cvtColor(decode(encode(cv2.cvtColor(face, cv2.COLOR_BGRA2BGR), int(quality))), cv2.COLOR_BGR2BGRA)
    return face


def warp_numpy(pool: np.ndarray, rows: np.ndarray, matrices: np.ndarray, colours: np.ndarray, out: np.ndarray) -> None:
    """Write the faces `rows` (n,) int64 of `pool` (P, S, S, 4) BGRX uint8, as `Changes` describes `matrices` (n, 6) and
    `colours` (n, 12), float32, into `out` (n, 3, S, S) float32, RGB planes. A negative row leaves its part of `out` as
    it is. Raises `ValueError` on another form, `IndexError` on a row that the pool has not."""
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
    """As `warp_numpy`, by the faster twin that this installation has; it lets other threads run."""
    if _augment is None:
        warp_numpy(pool, rows, matrices, colours, out)
    else:
        _check(pool, rows, matrices, colours, out)
        _augment.warp(pool, rows, matrices, colours, out)


def _check(pool, rows, matrices, colours, out) -> None:
    n, size = len(rows), pool.shape[1]
    shapes = {"pool": pool.shape[1:], "matrices": matrices.shape, "colours": colours.shape, "out": out.shape}
    wanted = {"pool": (size, size, 4), "matrices": (n, 6), "colours": (n, 12), "out": (n, 3, size, size)}
    for name, shape in shapes.items():
        if shape != wanted[name]:
            raise ValueError(f"warp: {name} of {shape}, {wanted[name]} is wanted")
    if n and rows.max() >= len(pool):
        raise IndexError(f"warp: row {rows.max()} of a pool of {len(pool)}")


try:
    from agedge.training.data import _augment
except ImportError:
    logging.getLogger(__name__).info("augment: the compiled twin is not built here; NumPy does the work, more slowly")
    _augment = None

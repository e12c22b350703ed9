"""Draw occlusions over a face (masks, glasses, hands, objects), placed by its landmarks, and letters on a scene."""

from typing import Optional, Sequence, Union

import cv2
import numpy as np

from agedge.training.scenes.cutout import blend

# BGR of common masks: white, black, surgical blue, green, pink, grey, navy, red
FABRICS = ((235, 235, 235), (25, 25, 25), (225, 200, 150), (190, 200, 140), (190, 170, 230), (130, 130, 130),
           (90, 50, 30), (50, 40, 180))  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .:-&"


class FaceAxes:
    """The coordinate system of a face: `at(0, 0)` lies between the eyes, on the middle line of the head.

    The unit to the right is the width of the face; the unit down is the distance from the eyes to the mouth.
    """

    def __init__(self, box: np.ndarray, landmarks: np.ndarray):
        eyes, mouth, self.nose = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0), landmarks[2]
        down = mouth - eyes
        self.reach = max(float(np.hypot(*down)), 1e-3)  # from the eyes to the mouth
        self.down = down / self.reach
        self.right = np.array([self.down[1], -self.down[0]])
        if self.right @ (landmarks[1] - landmarks[0]) < 0:
            self.right = -self.right
        self.eyes, self.width = eyes, float(np.sqrt(np.prod(box[2:] - box[:2]))) * 0.87
        # Offset from the eyes to the middle of the head, which is not 0 if the face is turned.
        centre = (box[:2] + box[2:]) / 2
        self.middle = float((centre - eyes) @ self.right)

    def at(self, right: float, down: float) -> np.ndarray:
        """Return the image coordinates (2,) of a point `right` units to the right and `down` units down."""
        return self.eyes + (right * self.width + self.middle) * self.right + down * self.reach * self.down

    def nose_at(self, share: float) -> np.ndarray:
        """Return a point (2,) between the middle of the eyes (share 0) and the tip of the nose (1)."""
        return self.eyes + share * (self.nose - self.eyes)


def smooth_outline(corners: Union[np.ndarray, Sequence], steps: int = 6) -> np.ndarray:
    """Return a closed smooth outline (n, 2) through the corners: a Catmull-Rom spline."""
    points = np.array(corners)
    before, after, further = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (each[:, None] for each in (before, points, after, further))
    spline = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return spline.reshape(-1, 2)


def fill_outline(canvas: np.ndarray, outline: np.ndarray, cloth: np.ndarray, opacity: float = 1.0) -> None:
    """Fill an outline (n, 2) of the canvas with an image `cloth` (h, w, 3), stretched to its size, in place."""
    x1, y1 = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
    x2, y2 = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, canvas.shape[1::-1])
    if x2 <= x1 or y2 <= y1:
        return
    alpha = np.zeros((y2 - y1, x2 - x1), np.uint8)
    cv2.fillPoly(alpha, [np.round((outline - (x1, y1)) * 16).astype(np.int32)], (255,), cv2.LINE_AA, shift=4)
    stretched = cv2.resize(cloth, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_LINEAR)
    blend(canvas[y1:y2, x1:x2], stretched, alpha.astype(np.float32) * (opacity / 255))


def make_cloth(
    colour: Union[np.ndarray, Sequence[float]], rng: np.random.Generator, patch: Optional[np.ndarray] = None
) -> np.ndarray:
    """Return the image of a cloth (24, 24, 3) uint8 with a BGR colour, shades and folds.

    `patch`: an image whose pattern the cloth gets.
    """
    cloth = np.empty((24, 24, 3), np.float32)
    cloth[:] = colour
    if patch is not None:
        pattern = cv2.resize(patch, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float32)
        share = rng.uniform(0.3, 1)
        cloth = (1 - share) * cloth + share * pattern
    shade = cv2.resize(rng.normal(1, 0.12, (4, 4)).astype(np.float32), (24, 24), interpolation=cv2.INTER_CUBIC)
    first, last = rng.uniform(0.75, 1.2, 2)
    shade *= np.linspace(first, last, 24, dtype=np.float32)[:, None]
    if rng.random() < 0.5:  # folds
        folds = int(rng.integers(2, 6))
        shade *= 1 + rng.uniform(0.02, 0.12) * np.sin(np.linspace(0, folds * 2 * np.pi, 24, dtype=np.float32))[:, None]
    return np.clip(cloth * shade[..., None], 0, 255).astype(np.uint8)


def draw_mask(canvas: np.ndarray, axes: FaceAxes, rng: np.random.Generator, patch: Optional[np.ndarray] = None) -> None:
    """Draw a face mask from the bridge of the nose to the chin, with straps to the ears."""
    top = rng.uniform(0.3, 0.75)
    wide = rng.uniform(0.42, 0.53)
    chin = rng.uniform(1.5, 1.75)
    cheek = rng.uniform(0.25, 0.6)
    outline = smooth_outline(
        [
            axes.nose_at(top),
            axes.at(0.25, cheek - 0.05),
            axes.at(wide, cheek + 0.1),
            axes.at(wide * 0.95, 1.05),
            axes.at(0.28, chin - 0.15),
            axes.at(0, chin),
            axes.at(-0.28, chin - 0.15),
            axes.at(-wide * 0.95, 1.05),
            axes.at(-wide, cheek + 0.1),
            axes.at(-0.25, cheek - 0.05),
        ]
    )
    colour = np.array(FABRICS[rng.integers(len(FABRICS))]) + rng.normal(0, 12, 3)
    if rng.random() < 0.15:
        colour = rng.uniform(0, 255, 3)
    thick = max(1, round(axes.width / 45))
    for side in (-1, 1):
        if axes.width > 24 and rng.random() < 0.8:
            for level, ear in ((cheek + 0.1, 0.1), (1.05, 0.45)):
                ends = np.round([axes.at(side * wide * 0.95, level), axes.at(side * 0.58, ear)]).astype(int)
                cv2.line(
                    canvas, ends[0].tolist(), ends[1].tolist(), np.clip(colour, 0, 255).tolist(), thick, cv2.LINE_AA
                )
    fill_outline(canvas, outline, make_cloth(colour, rng, patch if rng.random() < 0.25 else None))


def draw_glasses(canvas: np.ndarray, axes: FaceAxes, landmarks: np.ndarray, rng: np.random.Generator) -> None:
    """Draw spectacles or sunglasses."""
    dark = rng.random() < 0.5
    colour = rng.uniform(0, 80, 3).tolist()
    distance = max(float(np.hypot(*(landmarks[1] - landmarks[0]))), axes.width * 0.15)
    half = np.array([rng.uniform(0.3, 0.46) * distance, rng.uniform(0.24, 0.4) * distance])
    angle = float(np.degrees(np.arctan2(axes.right[1], axes.right[0])))
    thick = max(1, round(distance / rng.uniform(10, 25)))
    for eye in landmarks[:2]:
        ellipse = np.array(cv2.ellipse2Poly((0, 0), (100, 100), 0, 0, 360, 20)) / 100 * half
        radians = np.deg2rad(angle)
        rim = eye + ellipse @ np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
        if dark:
            fill_outline(canvas, rim, make_cloth(colour, rng), rng.uniform(0.75, 1))
        cv2.polylines(canvas, [np.round(rim * 8).astype(np.int32)], True, colour, thick, cv2.LINE_AA, shift=3)
    bridge = np.round([landmarks[0] + half[0] * axes.right, landmarks[1] - half[0] * axes.right]).astype(int)
    cv2.line(canvas, bridge[0].tolist(), bridge[1].tolist(), colour, thick, cv2.LINE_AA)


def draw_hand(canvas: np.ndarray, axes: FaceAxes, skin: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a hand (a palm and two to four fingers) over the lower face."""
    place, angle = axes.at(rng.uniform(-0.35, 0.35), rng.uniform(0.9, 1.7)), rng.uniform(-0.9, 0.9)
    up = -np.cos(angle) * axes.down + np.sin(angle) * axes.right
    across = np.array([-up[1], up[0]])
    size = axes.width * rng.uniform(0.16, 0.26)
    cloth = make_cloth(skin * rng.uniform(0.8, 1.15), rng)
    for finger in range(int(rng.integers(2, 5))):
        root = place + across * size * (finger - 1.5) * 0.55
        tip = root + up * size * rng.uniform(1.2, 2.2) + across * size * rng.normal(0, 0.2)
        aside = across * size * 0.22
        fill_outline(canvas, smooth_outline([root - aside, tip - aside, tip + aside, root + aside]), cloth)
    round_palm = [
        place + size * (np.cos(a) * across * 1.15 - np.sin(a) * up * 1.3) for a in np.linspace(0, 6.28, 7)[:-1]
    ]
    fill_outline(canvas, smooth_outline(round_palm), cloth)


def draw_object(canvas: np.ndarray, axes: FaceAxes, patch: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a piece of another image over the border of the face, in a random direction from its centre."""
    angle = rng.uniform(0, 2 * np.pi)
    away = axes.width * rng.uniform(0.45, 0.75)
    centre = axes.at(0, 0.6) + away * np.array([np.cos(angle), np.sin(angle)])
    corners = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))))
    radius = axes.width * rng.uniform(0.25, 0.55, len(corners))
    points = [centre + r * np.array([np.cos(a), np.sin(a)]) for r, a in zip(radius, corners)]
    fill_outline(canvas, smooth_outline(points) if rng.random() < 0.5 else np.array(points), patch)


def draw_letters(canvas: np.ndarray, centre: np.ndarray, side: float, rng: np.random.Generator) -> None:
    """Draw a few letters, `side` pixels wide, with or without a plate behind them."""
    letters = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 7))))
    font, thick = int(rng.integers(8)), max(1, round(side / rng.uniform(12, 40)))
    (width, height), _ = cv2.getTextSize(letters, font, 1, 1)
    scale = side / max(width, 1)
    half = np.array([side, height * scale]) / 2
    ink, plate = rng.uniform(0, 255, (2, 3)).tolist()
    if rng.random() < 0.5:
        low, high = (np.round(centre + sign * half * (1.2, 1.8)).astype(int).tolist() for sign in (-1, 1))
        cv2.rectangle(canvas, low, high, plate, -1)
    origin = np.round(centre + half * (-1, 1)).astype(int).tolist()
    cv2.putText(canvas, letters, origin, font, scale, ink, thick, cv2.LINE_AA)

"""What is drawn on a scene: face masks, glasses, hands and things over a face, by its landmarks; and letters."""

import cv2
import numpy as np

from agedge.training.scenes.cutout import blend

# BGR of the usual ones: white, black, surgical blue, green, pink, grey, navy, red
FABRICS = ((235, 235, 235), (25, 25, 25), (225, 200, 150), (190, 200, 140), (190, 170, 230), (130, 130, 130),
           (90, 50, 30), (50, 40, 180))  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .:-&"


class Frame:
    """A face's own axes: `at(right, down)` is a point that lies so many face widths right of the middle line and so
    many face heights below the eyes."""

    def __init__(self, box: np.ndarray, landmarks: np.ndarray):
        eyes, mouth, self.nose = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0), landmarks[2]
        down = mouth - eyes
        self.reach = max(float(np.hypot(*down)), 1e-3)  # from the eyes to the mouth
        self.down = down / self.reach
        self.right = np.array([self.down[1], -self.down[0]])
        if self.right @ (landmarks[1] - landmarks[0]) < 0:
            self.right = -self.right
        self.eyes, self.width = eyes, float(np.sqrt(np.prod(box[2:] - box[:2]))) * 0.87
        # The middle of the head, which in a turned face lies behind the nose.
        centre = (box[:2] + box[2:]) / 2
        self.middle = float((centre - eyes) @ self.right)

    def at(self, right: float, down: float) -> np.ndarray:
        return self.eyes + (right * self.width + self.middle) * self.right + down * self.reach * self.down

    def nose_at(self, share: float) -> np.ndarray:
        """A point between the eyes' middle (0) and the tip of the nose (1)."""
        return self.eyes + share * (self.nose - self.eyes)


def curve(points: list, steps: int = 6) -> np.ndarray:
    """A closed smooth outline (n, 2) through points: Catmull and Rom's spline."""
    points = np.array(points)
    before, after, further = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (each[:, None] for each in (before, points, after, further))
    spline = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return spline.reshape(-1, 2)


def fill(canvas: np.ndarray, outline: np.ndarray, cloth: np.ndarray, opacity: float = 1.0) -> None:
    """Fill an outline (n, 2) of the canvas with a cloth (h, w, 3), stretched over it, in place."""
    x1, y1 = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
    x2, y2 = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, canvas.shape[1::-1])
    if x2 <= x1 or y2 <= y1:
        return
    alpha = np.zeros((y2 - y1, x2 - x1), np.uint8)
    cv2.fillPoly(alpha, [np.round((outline - (x1, y1)) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    stretched = cv2.resize(cloth, (int(x2 - x1), int(y2 - y1)), interpolation=cv2.INTER_LINEAR)
    blend(canvas[y1:y2, x1:x2], stretched, alpha.astype(np.float32) * (opacity / 255))


def weave(colour, chance: np.random.Generator, patch=None) -> np.ndarray:
    """A cloth (24, 24, 3) uint8 of a colour, with shades, folds and sometimes the pattern of a picture's patch."""
    cloth = np.empty((24, 24, 3), np.float32)
    cloth[:] = colour
    if patch is not None:
        pattern = cv2.resize(patch, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float32)
        share = chance.uniform(0.3, 1)
        cloth = (1 - share) * cloth + share * pattern
    shade = cv2.resize(chance.normal(1, 0.12, (4, 4)).astype(np.float32), (24, 24), interpolation=cv2.INTER_CUBIC)
    shade *= np.linspace(*chance.uniform(0.75, 1.2, 2), 24, dtype=np.float32)[:, None]
    if chance.random() < 0.5:  # folds
        folds = int(chance.integers(2, 6))
        shade *= (
            1 + chance.uniform(0.02, 0.12) * np.sin(np.linspace(0, folds * 2 * np.pi, 24, dtype=np.float32))[:, None]
        )
    return np.clip(cloth * shade[..., None], 0, 255).astype(np.uint8)


def draw_mask(canvas, frame: Frame, chance, patch=None) -> None:
    """A face mask from the bridge of the nose to the chin, its straps to the ears."""
    top = chance.uniform(0.3, 0.75)
    wide = chance.uniform(0.42, 0.53)
    chin = chance.uniform(1.5, 1.75)
    cheek = chance.uniform(0.25, 0.6)
    outline = curve(
        [
            frame.nose_at(top),
            frame.at(0.25, cheek - 0.05),
            frame.at(wide, cheek + 0.1),
            frame.at(wide * 0.95, 1.05),
            frame.at(0.28, chin - 0.15),
            frame.at(0, chin),
            frame.at(-0.28, chin - 0.15),
            frame.at(-wide * 0.95, 1.05),
            frame.at(-wide, cheek + 0.1),
            frame.at(-0.25, cheek - 0.05),
        ]
    )
    colour = np.array(FABRICS[chance.integers(len(FABRICS))]) + chance.normal(0, 12, 3)
    if chance.random() < 0.15:
        colour = chance.uniform(0, 255, 3)
    thick = max(1, round(frame.width / 45))
    for side in (-1, 1):
        if frame.width > 24 and chance.random() < 0.8:
            for level, ear in ((cheek + 0.1, 0.1), (1.05, 0.45)):
                ends = np.round([frame.at(side * wide * 0.95, level), frame.at(side * 0.58, ear)]).astype(int)
                cv2.line(
                    canvas, ends[0].tolist(), ends[1].tolist(), np.clip(colour, 0, 255).tolist(), thick, cv2.LINE_AA
                )
    fill(canvas, outline, weave(colour, chance, patch if chance.random() < 0.25 else None))


def draw_glasses(canvas, frame: Frame, landmarks: np.ndarray, chance) -> None:
    """Spectacles, or dark ones."""
    dark = chance.random() < 0.5
    colour = chance.uniform(0, 80, 3).tolist()
    distance = max(float(np.hypot(*(landmarks[1] - landmarks[0]))), frame.width * 0.15)
    half = np.array([chance.uniform(0.3, 0.46) * distance, chance.uniform(0.24, 0.4) * distance])
    angle = float(np.degrees(np.arctan2(frame.right[1], frame.right[0])))
    thick = max(1, round(distance / chance.uniform(10, 25)))
    for eye in landmarks[:2]:
        ellipse = cv2.ellipse2Poly((0, 0), (100, 100), 0, 0, 360, 20) / 100 * half
        turned = np.deg2rad(angle)
        rim = eye + ellipse @ np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]])
        if dark:
            fill(canvas, rim, weave(colour, chance), chance.uniform(0.75, 1))
        cv2.polylines(canvas, [np.round(rim * 8).astype(np.int32)], True, colour, thick, cv2.LINE_AA, shift=3)
    bridge = np.round([landmarks[0] + half[0] * frame.right, landmarks[1] - half[0] * frame.right]).astype(int)
    cv2.line(canvas, bridge[0].tolist(), bridge[1].tolist(), colour, thick, cv2.LINE_AA)


def draw_hand(canvas, frame: Frame, skin: np.ndarray, chance) -> None:
    """A hand before the lower face: a palm and some fingers."""
    place, angle = frame.at(chance.uniform(-0.35, 0.35), chance.uniform(0.9, 1.7)), chance.uniform(-0.9, 0.9)
    up = -np.cos(angle) * frame.down + np.sin(angle) * frame.right
    across = np.array([-up[1], up[0]])
    size = frame.width * chance.uniform(0.16, 0.26)
    cloth = weave(skin * chance.uniform(0.8, 1.15), chance)
    for finger in range(int(chance.integers(2, 5))):
        root = place + across * size * (finger - 1.5) * 0.55
        tip = root + up * size * chance.uniform(1.2, 2.2) + across * size * chance.normal(0, 0.2)
        aside = across * size * 0.22
        fill(canvas, curve([root - aside, tip - aside, tip + aside, root + aside]), cloth)
    round_palm = [
        place + size * (np.cos(a) * across * 1.15 - np.sin(a) * up * 1.3) for a in np.linspace(0, 6.28, 7)[:-1]
    ]
    fill(canvas, curve(round_palm), cloth)


def draw_thing(canvas, frame: Frame, patch: np.ndarray, chance) -> None:
    """Something before a part of the face: a piece of another picture, from a side or below."""
    angle = chance.uniform(0, 2 * np.pi)
    away = frame.width * chance.uniform(0.45, 0.75)
    centre = frame.at(0, 0.6) + away * np.array([np.cos(angle), np.sin(angle)])
    corners = np.sort(chance.uniform(0, 2 * np.pi, int(chance.integers(4, 8))))
    radius = frame.width * chance.uniform(0.25, 0.55, len(corners))
    points = [centre + r * np.array([np.cos(a), np.sin(a)]) for r, a in zip(radius, corners)]
    fill(canvas, curve(points) if chance.random() < 0.5 else np.array(points), patch)


def write(canvas, centre: np.ndarray, side: float, chance) -> None:
    """A few letters, on a plate or without one, about `side` pixels wide."""
    letters = "".join(chance.choice(list(LETTERS), int(chance.integers(1, 7))))
    font, thick = int(chance.integers(8)), max(1, round(side / chance.uniform(12, 40)))
    (width, height), _ = cv2.getTextSize(letters, font, 1, 1)
    scale = side / max(width, 1)
    half = np.array([side, height * scale]) / 2
    ink, plate = chance.uniform(0, 255, (2, 3)).tolist()
    if chance.random() < 0.5:
        low, high = (np.round(centre + sign * half * (1.2, 1.8)).astype(int).tolist() for sign in (-1, 1))
        cv2.rectangle(canvas, low, high, plate, -1)
    origin = np.round(centre + half * (-1, 1)).astype(int).tolist()
    cv2.putText(canvas, letters, origin, font, scale, ink, thick, cv2.LINE_AA)

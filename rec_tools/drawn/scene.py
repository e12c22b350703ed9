"""One photo: pose, light, background and camera around a drawn person."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from rec_tools.drawn.features import (
    EYE,
    draw_brows,
    draw_earrings,
    draw_eyes,
    draw_glasses,
    draw_mouth,
    draw_nostrils,
)
from rec_tools.drawn.hair import draw_back_hair, draw_beard, draw_front_hair, lay_stubble
from rec_tools.drawn.head import draw_head
from rec_tools.drawn.pen import SIZE, Pen
from rec_tools.drawn.person import Look, Person, make_look

FINER = 2  # drawn at twice the size, then averaged
MAX_ROLL = np.radians(15)
MAX_SHIFT = 0.04 * SIZE


@dataclass(frozen=True)
class Scene:
    """How a photo is taken."""

    roll: float = 0.0  # radians
    scale: float = 1.0
    shift: tuple = (0.0, 0.0)  # pixels
    yaw: float = 0.0  # radians
    gaze: float = 0.0
    light: float = 0.0  # -1 from the left .. 1 from the right
    fall: float = 0.0  # how much the light falls off across the image
    gain: float = 1.0
    cast: tuple = (1.0, 1.0, 1.0)  # B, G, R
    contrast: float = 1.0
    blur: float = 0.0  # pixels
    noise: float = 0.0  # grey levels
    grey: bool = False
    background: str = "flat"


def set_scene(rng: np.random.Generator, grey: float = 0.03) -> Scene:
    """Return a random scene; `grey` is the share of photographs without colour."""
    return Scene(
        roll=float(np.clip(rng.normal(0, 0.09), -MAX_ROLL, MAX_ROLL)),
        scale=float(rng.uniform(0.9, 1.1)),
        shift=tuple(rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2)),
        yaw=float(np.clip(rng.normal(0, 0.17), -0.4, 0.4)),
        gaze=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        light=float(rng.uniform(-1, 1)),
        fall=float(rng.uniform(0, 0.35)),
        gain=float(np.clip(rng.normal(1, 0.13), 0.65, 1.2)),
        cast=tuple(rng.normal(1, 0.035, 3)),
        contrast=float(rng.uniform(0.8, 1.15)),
        blur=float(rng.choice([0, rng.uniform(0.3, 1.5)])),
        noise=float(rng.uniform(0, 7)),
        grey=bool(rng.random() < grey),
        background=str(rng.choice(["flat", "gradient", "clouds", "shapes"])),
    )


def draw_photo(person: Person, age: float, rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """Draw a person at an age (years) in a scene: (SIZE, SIZE, 3) BGR uint8."""
    return draw_look(make_look(person, age, rng), rng, scene)[0]


def draw_look(look: Look, rng: np.random.Generator, scene: Scene):
    """Draw a person in a scene. Return the image and its five landmarks (5, 2) in pixels."""
    mouth = look.mouth, look.eye_mouth
    landmarks = np.array([(-EYE, 0), (EYE, 0), (0, look.nose_y), (-mouth[0], mouth[1]), mouth])
    pose = scene.scale * np.exp(1j * scene.roll)
    pen = Pen(landmarks, scene.yaw, pose, scene.shift)
    canvas = draw_background(rng, scene.background)
    draw_back_hair(pen, canvas, look, rng)
    draw_head(pen, canvas, look, scene.light, rng)
    lay_stubble(pen, canvas, look)
    draw_beard(pen, canvas, look, rng)
    draw_nostrils(pen, canvas, look)
    draw_mouth(pen, canvas, look)
    draw_eyes(pen, canvas, look, scene.gaze)
    draw_brows(pen, canvas, look, rng)
    draw_earrings(pen, canvas, look, rng)
    draw_front_hair(pen, canvas, look, rng)
    draw_glasses(pen, canvas, look, rng)
    return apply_camera(canvas, rng, scene), pen.landmarks


def draw_background(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Return a background (side, side, 3) uint8 at the canvas's resolution: flat, gradient, clouds or shapes."""
    side = SIZE * FINER
    one, other = rng.uniform(30, 225, (2, 1)) + rng.normal(0, 24, (2, 3))  # rooms and streets are seldom gaudy
    if kind == "gradient":
        corners = rng.random((2, 2, 1))
        image = cv2.resize(one + (other - one) * corners, (side, side))
        return np.clip(image, 0, 255).astype(np.uint8)
    if kind == "clouds":
        coarse = np.clip(one + (other - one) * rng.random((5, 5, 1)) + rng.normal(0, 8, (5, 5, 3)), 0, 255)
        return cv2.resize(coarse.astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    image = np.empty((side, side, 3), np.uint8)
    image[:] = np.clip(one, 0, 255)
    if kind == "shapes":
        for _ in range(rng.integers(3, 9)):
            x, y, w, h = (rng.uniform(-0.1, 1, 4) * side).astype(int)
            colour = np.clip(one + (other - one) * rng.uniform(-1, 1.5), 0, 255).tolist()
            if rng.random() < 0.6:
                cv2.rectangle(image, (x, y), (x + abs(w) // 2, y + abs(h)), colour, -1)
            else:
                cv2.circle(image, (x, y), abs(w) // 4, colour, -1, cv2.LINE_AA)
        small = cv2.GaussianBlur(cv2.resize(image, (side // 4, side // 4)), (0, 0), 1.5)
        image = cv2.resize(small, (side, side))
    return image


def apply_camera(canvas: np.ndarray, rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """Apply the effects of a camera: light across the image, exposure, blur, noise."""
    image = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    if scene.blur:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    offset = np.float32(128 * (1 - scene.contrast))
    across = 1 + scene.fall * (ramp * np.float32(scene.light) + (ramp * np.float32(np.sin(angle)))[:, None]) / 2
    colour = np.array(scene.cast, np.float32) * np.float32(scene.gain)
    contrast = np.float32(scene.contrast)
    photo = cv2.merge([(plane * contrast + offset) * (across * c) for plane, c in zip(cv2.split(image), colour)])
    grain = grain_bank()
    y, x = rng.integers(0, grain.shape[0] - SIZE, 2)
    photo = cv2.add(photo, grain[y : y + SIZE, x : x + SIZE] * np.float32(scene.noise), dtype=cv2.CV_8U)  # saturates
    if scene.grey:
        photo = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return photo


@lru_cache(maxsize=1)
def grain_bank() -> np.ndarray:
    """Standard normal noise to cut pieces from: drawing it for each photo would take longer than the face."""
    return np.random.default_rng(0).standard_normal((320, 320, 3), np.float32)

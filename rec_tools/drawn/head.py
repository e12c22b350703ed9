"""Head, neck and ears, and the skin on them: soft shading, wrinkles, sagging, spots, rosy cheeks."""

import cv2
import numpy as np

from rec_tools.drawn.pen import SIZE, Pen, arch, curve, mirrored, ring
from rec_tools.drawn.person import Look

SIDES = (-1, 1)
SHADE_BLUE, SHADE_RED = np.float32(1.08), np.float32(0.78)  # shading relative to green: skin in the shade is redder


def outline(look: Look) -> np.ndarray:
    """Return the closed outline of skull and face."""
    jowl = 1.5 * look.sag
    right = [
        (0, look.top),
        (0.58 * look.temple, look.top * 0.89),
        (0.93 * look.temple, look.top * 0.55),
        (look.temple, look.top * 0.18),
        (look.cheek, 14),
        (look.cheek - 0.35 * (look.cheek - look.jaw), 34),
        (look.jaw + jowl, 0.68 * look.chin),
        (0.5 * (look.jaw + look.chin_width) + jowl, 0.875 * look.chin),
        (look.chin_width * 0.8, look.chin - 1.2),
        (0, look.chin),
    ]
    return curve(mirrored(right), closed=True, steps=5)


def draw_head(pen: Pen, canvas: np.ndarray, look: Look, light: float, rng: np.random.Generator) -> None:
    """Draw clothes, neck, ears and the bare head onto the canvas, shaded; `light`: direction, -1 left to 1 right."""
    head = outline(look)
    skin = np.zeros((SIZE, SIZE), np.uint8)  # where the shading goes
    neck = [(-look.neck, 40), (-look.neck, 150), (look.neck, 150), (look.neck, 40)]
    for image, colour in ((canvas, look.skin * 0.93), (skin, 255)):
        pen.fill(image, neck, colour)
        if image is canvas:
            _draw_clothes(pen, canvas, look)
        for side in SIDES:
            pen.fill(image, _ear(look, side), colour)
        pen.fill(image, head, look.skin if image is canvas else 255)
    _shade(pen, canvas, skin, head, look, light, rng)


def _ear(look: Look, side: int) -> np.ndarray:
    tilt = ring((0, 0), 6.2, look.ear)
    tilt[:, 0] += -0.12 * tilt[:, 1]
    return tilt * (side, 1) + (side * (look.cheek + 1.5), 7 + 0.25 * look.ear)


def _draw_clothes(pen: Pen, canvas: np.ndarray, look: Look) -> None:
    y, n = look.chin + 17, look.neck
    right = [(0, y + 10), (0.7 * n, y + 5), (n + 2, y - 6), (n + 26, y + 4), (n + 52, y + 14), (n + 70, y + 60)]
    line = curve(arch(right))
    pen.fill(canvas, np.concatenate([line, [(120, 200), (-120, 200)]]), look.clothes)
    pen.line(canvas, line, look.clothes * 0.7, 1.2)


def _shade(pen, canvas, skin, head, look, light, rng):
    half = SIZE // 2
    soft, lit, red = (np.zeros((half, half), np.uint8) for _ in range(3))
    fine = np.zeros((SIZE, SIZE), np.uint8)
    _lay_soft(pen, soft, lit, head, look, light)
    _lay_red(pen, red, look)
    _lay_nose(pen, soft, lit, fine, look, light)
    _lay_wrinkles(pen, fine, soft, look, rng)
    soft, lit, red = (cv2.GaussianBlur(layer, (0, 0), s) for layer, s in ((soft, 3.0), (lit, 3.0), (red, 3.6)))
    shade = cv2.resize(lit * np.float32(0.24 / 255) - soft * np.float32(0.42 / 255), (SIZE, SIZE))
    shade -= cv2.GaussianBlur(fine, (0, 0), 0.75) * np.float32(0.6 / 255)
    blotches = rng.standard_normal((20, 20), np.float32) * np.float32(0.004 + 0.008 * look.sag)
    shade += cv2.resize(blotches, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) - _spots(pen, look, rng)
    share = skin * np.float32(1 / 255)
    shade *= share
    rosy = 1 - cv2.resize(red, (SIZE, SIZE)) * share * np.float32(0.3 / 255)
    shade = cv2.merge((rosy + shade * SHADE_BLUE, rosy + shade, 1 + shade * SHADE_RED))
    large = cv2.resize(shade, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    cv2.multiply(canvas, large, dst=canvas, dtype=cv2.CV_8U)


def _lay_soft(pen, soft, lit, head, look, light):
    pen.line(soft, head, 150, 9, closed=True)
    pen.fill(soft, [(-50, look.chin + 1), (50, look.chin + 1), (50, look.chin + 26), (-50, look.chin + 26)], 235)
    for side in SIDES:
        shadowed = max(0.0, -side * light)
        if shadowed:
            band = [(side * 24, -60), (side * 60, -60), (side * 60, 80), (side * 16, 80), (side * 24, 20)]
            pen.fill(soft, band, 90 * shadowed)
        pen.fill(soft, ring((side * 19, -3.5), look.eye + 4, look.open + 4.5), 70 + 40 * look.hollow)
        pen.fill(soft, ring((side * 29, 33), 6, 12), 150 * look.hollow)
        pen.fill(soft, ring((side * 36, -26), 5, 10), 130 * look.hollow)
        pen.fill(soft, ring((side * 14, look.chin - 9), 4, 6), 120 * look.sag)
        pen.fill(lit, ring((side * 25, 16), 8, 6), 130 + 60 * max(0.0, side * light))
        pen.spot(soft, (side * (look.cheek + 2), 9), 3, 130, 2.2)
    pen.fill(soft, ring((0, look.eye_mouth + look.lip_low + 4), 8, 2.5), 120)
    pen.fill(lit, ring((0, look.chin - 6), 6, 4), 120)
    pen.fill(lit, ring((8 * light, 0.5 * look.hairline - 8), 17, 10), 160)


def _lay_red(pen, red, look):
    for side in SIDES:
        pen.fill(red, ring((side * 25, 21), 10, 8), min(255, 330 * look.blush))
        pen.fill(red, ring((side * (look.cheek + 2), 10), 5, 10), 70)
    pen.spot(red, (0, look.nose_y), 6, 60 + 60 * look.sag)


def _lay_nose(pen, soft, lit, fine, look, light):
    y, w = look.nose_y, look.nose
    dark = 1 if light < 0 else -1
    bridge = [(0.34 * w, -5), (0.36 * w, 5), (0.5 * w, y - 7), (0.78 * w, y - 2)]
    for side in SIDES:
        pen.line(soft, np.array(bridge) * (side, 1), 165 if side == dark else 95, 3.4, lift=5)
        wing = [(0.72 * w, y - 4.5), (w, y - 1), (w * 0.98, y + 2.6), (w * 0.7, y + 4.2)]
        pen.line(fine, curve(np.array(wing) * (side, 1)), 120, 1.4, lift=6)
    pen.line(fine, curve([(-0.5 * w, y + 4.4), (0, y + 6), (0.5 * w, y + 4.4)]), 130, 1.6, lift=8)
    pen.fill(soft, ring((0, y + 9), 0.9 * w, 3), 130, lift=3)
    pen.line(lit, [(0, -8), (0, y - 3)], 210, 3.0, lift=8)
    pen.spot(lit, (light, y - 1), 3.6, 255, lift=11)


def _lay_wrinkles(pen, fine, soft, look, rng):
    w, smile = look.wrinkles, max(look.smile, 0)
    wing, corner = (look.nose + 1.5, look.nose_y - 1), (look.mouth + 3.5, look.eye_mouth)
    for side in SIDES:
        fold = np.array([wing, (0.5 * (wing[0] + corner[0]) + 3.4, 0.5 * (wing[1] + corner[1]) - 1), corner])
        depth = 85 * look.folds + 130 * w
        pen.line(fine, curve(fold * (side, 1)), min(190, depth), 1.1 + 0.3 * w)
        pen.line(soft, curve(fold * (side, 1) + (side * 2.5, 0)), min(150, 0.7 * depth), 3.2)
        lower = [(19.4 - look.eye, look.open + 1.5), (19.4, look.open + 4.4), (19.4 + look.eye, look.open + 1.5)]
        pen.line(fine, curve(np.array(lower) * (side, 1)), 45 + 130 * w, 1.1)
        if w > 0.12:
            bag = [(19.4 - look.eye, look.open + 4), (19.4, look.open + 8 + 2 * w), (20 + look.eye, look.open + 4)]
            pen.line(fine, curve(np.array(bag) * (side, 1)), 190 * w, 1.3)
            for k in (-1, 0, 1):
                crow = [(21 + look.eye, 1 + 1.2 * k), (24 + look.eye + 2.5 * w, 1.5 + 3.6 * k)]
                pen.line(fine, np.array(crow) * (side, 1), min(230, 210 * w + 40 * smile * w), 1.0)
        if w > 0.35:
            drop = [corner, (corner[0] + 1.5, corner[1] + 7), (corner[0] + 0.5, corner[1] + 12 + 5 * look.sag)]
            pen.line(fine, curve(np.array(drop) * (side, 1)), 180 * (w - 0.2), 1.2)
            pen.line(fine, [(side * 3.2, -13), (side * 2.4, -6)], 220 * (w - 0.3), 1.2)
            cheek = [(27, 22), (30, 32), (28, 44)]
            pen.line(fine, curve(np.array(cheek) * (side, 1)), 170 * (w - 0.3), 1.1)
    rows = int(np.ceil(4.5 * w - 0.3))
    for k in range(rows):
        y = look.brow - 7 - 5.2 * k
        if y > look.hairline + 3:
            wave = [(x, y + rng.normal(0, 0.55) + 0.0035 * x * x) for x in np.linspace(-19, 19, 7)]
            pen.line(fine, curve(wave), min(220, 235 * w * rng.uniform(0.7, 1)), 1.2)
    for k in range(int(7 * max(w - 0.55, 0))):  # short lines over the upper lip
        x = (k - 1) * 4 - 2
        pen.line(fine, [(x, look.eye_mouth - look.lip_up - 5), (x, look.eye_mouth - look.lip_up - 1)], 120, 0.9)
    for k in range(int(4 * w)):
        y = look.chin + 8 + 6 * k
        pen.line(fine, curve([(-15, y - 2), (0, y + 1.5), (15, y - 2)]), 140 * w, 1.3)


def _spots(pen, look, rng):
    """Draw age spots and freckles."""
    if not look.spots + look.freckles:
        return 0
    layer = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(look.spots):
        y = rng.choice([rng.uniform(-56, -14), rng.uniform(8, 50)])
        pen.fill(layer, ring((rng.uniform(-34, 34), y), rng.uniform(0.8, 2.1), rng.uniform(0.8, 1.7), 10), 130)
    for _ in range(look.freckles):
        pen.spot(layer, (rng.normal(0, 17), rng.uniform(5, 24)), 0.55, 110)
    return cv2.GaussianBlur(layer, (0, 0), 0.6) * np.float32(0.3 / 255)

"""Eyes, brows, nostrils, mouth, and what is worn on a face: glasses and earrings."""

import numpy as np

from rec_tools.drawn.head import SIDES
from rec_tools.drawn.pen import Pen, arch, curve, ring
from rec_tools.drawn.person import Look

EYE = 19.4  # x of an eye's centre in face units, as in the template
EYE_WHITE = np.array((226, 230, 234))  # B, G, R, as all colours here
PUPIL = (14, 12, 12)
TEETH = (205, 228, 236)
GUM = (60, 40, 90)


def draw_eyes(pen: Pen, canvas: np.ndarray, look: Look, gaze: float) -> None:
    """Both eyes; `gaze` in -1..1 is where they look."""
    along = np.linspace(-1, 1, 11)  # from the inner to the outer corner
    bow = np.sqrt(np.clip(1 - along**2, 0, 1))
    for side in SIDES:
        hang = 1 - look.hood * 0.5 * (0.3 + 0.7 * (along + 1) / 2)
        slant = -0.9 * along + 1.6 * look.sag * along
        x = side * (EYE + look.eye * along)
        upper = slant - look.open * 1.1 * bow * hang
        lower = slant + look.open * 0.8 * bow**1.3
        white = EYE_WHITE * (0.86 + 0.14 * min(1, look.skin.mean() / 190)) - np.array((22, 8, 4)) * look.sag
        pen.fill(canvas, np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]]), white)
        order = np.argsort(x)
        centre = np.array((side * EYE + 1.6 * gaze, -0.35))
        for share, colour in ((1, look.eyes * 0.55), (0.86, look.eyes), (0.46, PUPIL)):
            disc = ring(centre, share * look.iris, share * look.iris)
            lids = (np.interp(disc[:, 0], x[order], lid[order]) for lid in (upper, lower))
            disc[:, 1] = np.clip(disc[:, 1], *lids)
            pen.fill(canvas, disc, colour)
        pen.spot(canvas, centre + (-1.1, -1.1), 0.75, (245, 245, 245))
        lid = np.stack([x, upper], 1)
        if look.shadow > 0.15:
            above = np.stack([x, upper - (2.2 + 1.6 * look.shadow) * bow], 1)
            pen.fill(canvas, np.concatenate([lid, above[::-1]]), look.skin * (0.8, 0.66, 0.76))
        crease = np.stack([x, upper - (1.4 + 1.4 * (1 - look.hood)) * bow - 0.6], 1)
        pen.line(canvas, crease[1:-1], look.skin * 0.68, 0.7)
        dark = look.skin * 0.3 * (1 - min(look.lashes, 1)) + 14
        pen.line(canvas, lid, dark, 0.9 + 1.1 * look.lashes)
        pen.line(canvas, np.stack([x, lower], 1)[2:], look.skin * (0.58, 0.55, 0.68), 0.5)
        if look.lashes > 0.5:
            tip = lid[-1] + (side * 2.4, -1.8)
            pen.line(canvas, [lid[-3], lid[-1], tip], dark, 0.8 + 0.5 * look.lashes)


def draw_brows(pen: Pen, canvas: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    arch_height = 2.3 - 0.8 * (look.brow_thick > 2)
    tilt = rng.normal(0, 0.5)
    middle = np.array([(8.7, 1), (18, -arch_height), (30.5, 1.3 + tilt)]) + (0, look.brow)
    half = look.brow_thick * np.array([(0, 0.7), (0, 0.8), (0, 0.05)])
    top, low = curve(middle - half), curve(middle + half)
    for side in SIDES:
        pen.fill(canvas, np.concatenate([top, low[::-1]]) * (side, 1), look.brow_colour)
        for k in range(0, len(top) - 3, 2):  # single hairs, outward
            ends = [low[k] * (side, 1), top[min(k + 2, len(top) - 1)] * (side, 1) + (0, -0.5)]
            pen.line(canvas, ends, look.brow_colour * rng.uniform(0.6, 1.1), 0.5)


def draw_nostrils(pen: Pen, canvas: np.ndarray, look: Look) -> None:
    for side in SIDES:
        hole = ring((side * 0.45 * look.nose, look.nose_y + 3.4), 0.2 * look.nose, 1.1)
        pen.fill(canvas, hole, look.skin * (0.32, 0.3, 0.42), lift=7)


def draw_mouth(pen: Pen, canvas: np.ndarray, look: Look) -> None:
    m, y, up, low = look.mouth, look.eye_mouth, look.lip_up, look.lip_low
    dip = 2.6 * look.smile - 1.2 * look.sag  # the corners stay on their landmarks: a smile lowers the middle
    gap = look.teeth

    def across(half: float, middle: float):
        """Return a line from corner to corner, lowered by so much at half way and in the middle."""
        return curve([(-m, y), (-0.5 * m, y + half), (0, y + middle), (0.5 * m, y + half), (m, y)], steps=9)

    seam = across(0.8 * dip, dip)
    floor = across(0.8 * (dip + gap), dip + gap)
    base = across(0.8 * dip + gap + 0.78 * low, dip + gap + low)
    bow = [(0, 0.85 * dip - 0.74 * up), (0.2 * m, 0.75 * dip - up), (0.52 * m, 0.5 * dip - 0.72 * up), (m, 0)]
    top = curve(arch(np.array(bow) + (0, y)))
    pen.fill(canvas, np.concatenate([top, seam[::-1]]), look.lip_colour * 0.88)
    pen.fill(canvas, np.concatenate([floor, base[::-1]]), look.lip_colour)
    if gap:
        pen.fill(canvas, np.concatenate([seam, floor[::-1]]), TEETH if gap < 3.4 else GUM)
        if gap >= 3.4:
            pen.fill(canvas, np.concatenate([seam, (seam * 0.45 + floor * 0.55)[::-1]]), TEETH)
    pen.line(canvas, seam, look.lip_colour * (0.45, 0.4, 0.5), 0.8)
    gloss = y + dip + gap + 0.5 * low
    pen.line(canvas, [(-0.3 * m, gloss), (0.3 * m, gloss)], np.minimum(look.lip_colour * 1.14 + 8, 255), 0.9)


def draw_glasses(pen: Pen, canvas: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    if look.glasses == "none":
        return
    thick = 2.2 if look.glasses == "thick" else 1.0
    frame = np.array([(25, 25, 28), (40, 50, 90), (120, 120, 125), (70, 110, 150)][rng.integers(4)])
    power = rng.uniform(0.55, 1.0)  # of a superellipse: round to square
    round_lens = ring((0, 0), 1, 1, 24)
    lens = np.sign(round_lens) * np.abs(round_lens) ** power * (12.8, 10.2)
    for side in SIDES:
        pen.line(canvas, lens + (side * (EYE + 0.4), 1.5), frame, thick, lift=5, closed=True)
        pen.line(canvas, [(side * (EYE + 13), -1), (side * (look.cheek + 2), 0)], frame, thick)
        if rng.random() < 0.4:
            x = side * EYE - 3
            pen.line(canvas, [(x - 3, 5), (x + 3, -4)], np.minimum(look.skin * 1.15 + 20, 255), 0.9, lift=5)
    pen.line(canvas, curve([(-7.2, 0), (0, -2), (7.2, 0)]), frame, thick, lift=7)


def draw_earrings(pen: Pen, canvas: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    if not look.earrings:
        return
    metal = np.array([(90, 190, 220), (215, 215, 220), (200, 120, 60), (80, 60, 200)][rng.integers(4)])
    radius = rng.uniform(1.3, 3)
    for side in SIDES:
        centre = (side * (look.cheek + 2.5), 9 + 1.25 * look.ear + radius)
        if radius > 2.2:
            pen.line(canvas, ring(centre, radius, radius), metal, 0.9, closed=True)
        else:
            pen.spot(canvas, centre, radius, metal)

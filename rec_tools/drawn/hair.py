"""Hair and beard: bands between two lines, filled, with strands that run along them."""

import cv2
import numpy as np

from rec_tools.drawn.head import SIDES
from rec_tools.drawn.pen import Pen, arch, curve, ring
from rec_tools.drawn.person import Look

LENGTH = {"long": 125, "wavy": 95, "bob": 52}  # y of the ends
VOLUME = {"buzz": 1.2, "short": 5, "side": 7, "curly": 8, "bob": 8, "long": 6, "wavy": 9, "tied": 4}
BALD = 0.8  # receding above it: only a wreath is left


def draw_band(pen: Pen, canvas: np.ndarray, one, other, colour, rng, strands: int = 26, rough: float = 0.0) -> None:
    """Hair between two lines of equally many points; strands run along them, `rough` face units aside."""
    one, other = np.asarray(one), np.asarray(other)
    pen.fill(canvas, np.concatenate([one, other[::-1]]), colour)
    if not strands:
        return
    between = rng.random((strands, 1, 1))
    flow = one + (other - one) * between
    if rough:
        flow = flow + rng.normal(0, rough, (strands, 1, 2))
    start = rng.integers(0, max(1, len(one) // 2), strands)
    spans = np.minimum(start[:, None] + np.arange(len(one) // 2 + 1), len(one) - 1)
    flow = flow[np.arange(strands)[:, None], spans]
    third = strands // 3
    for part, bright in ((flow[:third], 0.72), (flow[third : 2 * third], 1.18), (flow[2 * third :], 0.88)):
        pen.lines(canvas, part, np.minimum(np.asarray(colour) * bright + (bright > 1) * 9, 255), 0.7)


def draw_back_hair(pen: Pen, canvas: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    """Draw the hair behind the neck, before the head is drawn."""
    wide = look.temple + VOLUME[look.style] * look.volume
    if look.style in LENGTH:
        end = LENGTH[look.style]
        for side in SIDES:
            out = curve(
                [
                    (0, look.top),
                    (0.8 * wide, 0.7 * look.top),
                    (wide, -10),
                    (wide + 2, 25),
                    (wide + 1, end - 12),
                    (0.8 * wide, end),
                ]
            )
            centre = curve([(0, look.top), (2, -40), (2, 0), (2, 30), (2, end - 8), (2, end - 4)])
            draw_band(pen, canvas, out * (side, 1), centre * (side, 1), look.hair * 0.72, rng, 18)
    elif look.style == "curly":
        end = 34 if look.hood < 0.5 and rng.random() < 0.5 else 14
        half = curve(
            [
                (0, look.top - 8 * look.volume),
                (0.7 * wide, 0.85 * look.top),
                (wide + 3, -18),
                (wide + 4, end - 8),
                (0.8 * wide, end),
            ]
        )
        edge = np.concatenate([half, half[::-1] * (-1, 1)])
        pen.fill(canvas, edge, look.hair * 0.82)
        for point in edge[::2]:
            pen.spot(canvas, point + rng.normal(0, 0.8, 2), rng.uniform(3.5, 6), look.hair * rng.uniform(0.74, 0.9))
    elif look.style == "tied" and rng.random() < 0.5:
        pen.spot(canvas, (0, look.top - 5), 14, look.hair * 0.85)


def draw_front_hair(pen: Pen, canvas: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    """Draw the hair over the skull, after the face is drawn. Thin hair lets the skin through."""
    under = canvas.copy() if look.density < 0.97 else None
    if look.receding > BALD:
        _draw_wreath(pen, canvas, look, rng)
    else:
        _draw_cap(pen, canvas, look, rng)
        if look.style in LENGTH:
            _draw_locks(pen, canvas, look, rng)
    if under is not None:
        np.copyto(canvas, _mix(canvas, under, look.density))


def _mix(over: np.ndarray, under: np.ndarray, share: float) -> np.ndarray:
    return cv2.addWeighted(over, share, under, 1 - share, 0)


def _draw_cap(pen, canvas, look, rng):
    volume = VOLUME[look.style] * look.volume
    wide, top = look.temple + 0.6 * volume, look.top - volume
    ends = {"short": 4, "side": 8, "buzz": 2, "curly": 6, "tied": -2}.get(look.style, 8)
    high, line = look.receding, look.hairline
    outer = curve(
        arch([(0, top), (0.58 * wide, 0.9 * top), (0.94 * wide, 0.55 * top), (wide, 0.16 * top), (wide - 0.5, ends)]),
        steps=5,
    )
    temple = look.temple
    inner = curve(
        arch(
            [
                (0, line - 2 * high),
                (0.5 * temple, line - 2 - 15 * high),
                (0.76 * temple, line * 0.8 - 12 * high),
                (0.92 * temple, -14 - 8 * high),
                (temple - 1.5, ends),
            ]
        ),
        steps=5,
    )
    inner[:, 1] = np.maximum(inner[:, 1], np.interp(np.abs(inner[:, 0]), [0, temple], [look.top + 1, -12]))
    part = rng.choice((-1, 1)) * 0.45 * temple if look.style == "side" else 0.0
    if look.style == "side":  # one side is combed over and rises
        inner[:, 1] += np.where(inner[:, 0] * part > 0, -2.5, 2.5) * np.clip(1 - np.abs(inner[:, 0]) / temple, 0, 1)
        outer[:, 1] += np.where(outer[:, 0] * part > 0, 1.5, -2.0) * np.clip(1 - np.abs(outer[:, 0]) / temple, 0, 1)
    if look.fringe:
        reach = line + (look.brow - 2 - line) * look.fringe
        bend = np.clip(1 - (np.abs(inner[:, 0]) / (0.86 * temple)) ** 4, 0, 1)
        inner[:, 1] = np.maximum(inner[:, 1], reach * bend + inner[:, 1] * (1 - bend))
        inner[:, 1] += rng.normal(0, 0.9, len(inner)) * bend
    elif look.style in ("short", "curly", "buzz"):
        inner[:, 1] += rng.normal(0, 0.7 * look.density**2, len(inner))
    strands = 16 if look.style == "buzz" else 36
    draw_band(pen, canvas, outer, inner, look.hair, rng, strands, rough=0.3)
    if look.style == "curly":
        _draw_curls(pen, canvas, outer, inner, look, rng)
    elif look.fringe:
        _draw_fringe(pen, canvas, inner, look, rng)
    elif look.style in ("long", "wavy", "bob", "side"):
        crown = [(part, top + 2), (part * 0.95, line - 3 - 4 * high)]
        pen.line(canvas, crown, look.hair * 0.6, 0.9)


def _draw_curls(pen, canvas, outer, inner, look, rng):
    for point in np.concatenate([outer[::2], inner[1:-1:2] - (0, 1.5)]):
        pen.spot(canvas, point + rng.normal(0, 0.7, 2), rng.uniform(2.5, 5), look.hair * rng.uniform(0.85, 1.1))
    for k in rng.integers(0, len(outer), 30):
        centre = outer[k] + (inner[k] - outer[k]) * rng.random()
        pen.line(canvas, ring(centre, 2.8, 2.8, 10)[:7], look.hair * rng.choice((0.7, 1.2)), 0.7)


def _draw_fringe(pen, canvas, inner, look, rng):
    front = inner[np.abs(inner[:, 0]) < 0.8 * look.temple]
    for x, y in front[::2]:
        lock = [(x * 0.8, y - 16), (x * 0.95, y - 7), (x, y + 0.6)]
        pen.line(canvas, curve(lock, steps=3), look.hair * rng.uniform(0.65, 1.25), 0.8)


def _draw_locks(pen, canvas, look, rng):
    """Long hair before the ears, at both sides of the face."""
    end = LENGTH[look.style] + rng.normal(0, 4)
    wide = look.temple + VOLUME[look.style] * look.volume
    edge = look.cheek * rng.uniform(0.9, 0.99)
    ys = np.linspace(0, 1, 7)
    sway = 2.6 * np.sin(ys * 11) if look.style == "wavy" else 0.8 * np.sin(ys * 4)
    for side in SIDES:
        y = -34 + (end + 34) * ys
        hug = np.clip((y - 20) / 50, 0, 1) if look.style != "bob" else np.clip((y - 25) / 30, 0, 1) * 0.6
        inner = np.stack([edge * (0.82 + 0.18 * np.clip(ys * 4, 0, 1)) - 6 * hug + sway * (ys > 0.2), y], 1)
        outer = np.stack([wide * (0.86 + 0.14 * np.clip(ys * 3, 0, 1)) + 3 * ys + sway, y - 2], 1)
        draw_band(
            pen, canvas, curve(outer, steps=4) * (side, 1), curve(inner, steps=4) * (side, 1), look.hair, rng, 20, 0.4
        )


def _draw_wreath(pen, canvas, look, rng):
    wide = look.temple + 3 * look.volume
    low = 6 if look.style != "long" else 30
    for side in SIDES:
        outer = curve([(0.86 * wide, -36), (wide, -22), (wide + 1, -8), (wide - 1, low)])
        inner = curve(
            [(0.84 * look.temple, -34), (0.9 * look.temple, -20), (0.95 * look.temple, -8), (look.temple - 2, low)]
        )
        draw_band(pen, canvas, outer * (side, 1), inner * (side, 1), look.hair, rng, 14, 0.5)


def lay_stubble(pen: Pen, canvas: np.ndarray, look: Look) -> None:
    """Draw the shadow of a shaved beard: the jaw's colour moves a little towards that of the beard."""
    if look.beard_kind != "stubble":
        return
    mask = np.zeros((canvas.shape[0] // 2, canvas.shape[1] // 2), np.uint8)
    jaw, cheek = _jaw(look), _cheek_edge(look)
    pen.fill(mask, np.concatenate([jaw, cheek[::-1]]), 255)
    mask = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 2.2), canvas.shape[1::-1])
    share = mask[..., None].astype(np.float32) * (0.55 * min(1, 0.2 + look.beard) / 255)
    target = (look.skin * 0.35 + look.beard_colour * 0.65).astype(np.float32)
    np.copyto(canvas, (canvas + (target - canvas) * share).astype(np.uint8))


def _jaw(look: Look) -> np.ndarray:
    right = [
        (0, look.chin + 1),
        (look.chin_width * 0.85, look.chin - 0.4),
        (0.52 * (look.jaw + look.chin_width), 0.885 * look.chin),
        (look.jaw + 1, 0.68 * look.chin),
        (look.cheek - 3.2, 34),
        (look.cheek - 0.6, 10),
    ]
    return curve(arch(right), steps=5)


def _cheek_edge(look: Look) -> np.ndarray:
    nose = look.nose_y + 8
    right = [
        (0, nose),
        (0.6 * look.mouth, nose + 1),
        (look.mouth + 6, look.eye_mouth - 3),
        (look.jaw - 4, 40),
        (look.cheek - 8, 30),
        (look.cheek - 4, 10),
    ]
    return curve(arch(right), steps=5)


def draw_beard(pen: Pen, canvas: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    """Beard and moustache of some length; before the mouth is drawn."""
    if look.beard_kind in ("none", "stubble"):
        return
    under, colour, long = canvas.copy(), look.beard_colour, look.beard
    m, y = look.mouth, look.eye_mouth
    if look.beard_kind == "full":
        jaw = _jaw(look) + (0, 0)
        jaw[:, 1] += (2 + 7 * long) * np.clip(1 - np.abs(jaw[:, 0]) / look.jaw, 0, 1) ** 0.5
        jaw = jaw + rng.normal(0, 0.5, jaw.shape)
        draw_band(pen, canvas, jaw, _cheek_edge(look) + rng.normal(0, 0.4, (len(jaw), 2)), colour, rng, 44, 0.8)
    if look.beard_kind == "goatee":
        outer = curve(
            arch([(0, look.chin + 2 + 4 * long), (11, look.chin - 1), (m + 2, y + 11), (m + 3.5, y)]), steps=5
        )
        inner = curve(
            arch([(0, y + look.lip_low + 5), (6, y + look.lip_low + 6), (m - 2, y + 5), (m - 0.5, y)]), steps=5
        )
        draw_band(pen, canvas, outer, inner, colour, rng, 26, 0.6)
    over = curve(arch([(0, look.nose_y + 8.5), (5, look.nose_y + 8.2), (0.8 * m, y - 7), (m + 3.5, y + 1)]), steps=5)
    below = curve(
        arch([(0, y - look.lip_up + 0.2), (5, y - look.lip_up - 0.3), (0.8 * m, y - 2), (m + 1.5, y + 3)]), steps=5
    )
    draw_band(pen, canvas, over, below + rng.normal(0, 0.3, below.shape), colour, rng, 24, 0.4)
    np.copyto(canvas, _mix(canvas, under, 0.55 + 0.4 * min(1, long * 1.3)))

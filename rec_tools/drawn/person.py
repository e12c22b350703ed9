"""Drawn people: lifelong attributes of a person, and the look at an age that follows from them.

Age and gender determine the look only statistically. Each person ages faster or slower; some women have short hair and
some men long hair; a few dye it; below ten years boys and girls differ little. Proportions follow the usual drawing
tables by age: a baby's eyes are large and low in a round head, the lower face grows until adulthood, nose and ears
grow for life, lips get thinner, skin sags. All numbers were chosen by eye on the contact sheet (`sheet.py`).
"""

from dataclasses import dataclass

import numpy as np

from agedge.labels import FEMALE, MALE
from agedge.value_equality import compare_by_value

# Colours are B, G, R. Skin from light to dark; hair from black to fair; eyes.
SKINS = np.array([(205, 222, 250), (176, 202, 240), (140, 178, 226), (104, 146, 200), (72, 104, 156), (48, 68, 106)])
HAIRS = np.array([(24, 22, 24), (30, 38, 54), (42, 60, 88), (64, 92, 128), (108, 160, 200), (40, 76, 158)])
EYES = np.array([(40, 60, 90), (30, 42, 62), (140, 110, 70), (90, 120, 90), (160, 135, 105)])
GREY, WHITE = np.array((172, 170, 168)), np.array((228, 226, 224))
STYLES = {  # by gender, from ten years on: style -> share
    FEMALE: {"long": 0.36, "wavy": 0.2, "bob": 0.17, "tied": 0.15, "curly": 0.07, "short": 0.05},
    MALE: {"short": 0.5, "side": 0.22, "buzz": 0.12, "curly": 0.08, "bob": 0.04, "long": 0.02, "tied": 0.02},
}
SHORT_OF_OLD = 0.55  # share of women over seventy with short hair


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 below `low`, 1 above `high`, smooth between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@compare_by_value
@dataclass(frozen=True)
class Person:
    """Lifelong attributes of a drawn person. Those without a comment are standard normal or from 0 to 1."""

    gender: int
    manly: float  # +1 a typical man's build, -1 a typical woman's; they overlap a little
    skin: np.ndarray
    hair: np.ndarray
    eyes: np.ndarray
    ageing: float  # years by which the apparent age exceeds the age, at sixty
    greying: float  # age at which half of the hair is grey
    balding: float  # age at which half of the top is bald
    style: str
    dyes: bool
    makeup: float  # amount, 0..1
    beard: float  # 0 never .. 1 full beards
    glasses: float  # higher: more photos with glasses
    width: float
    jaw: float
    nose: float
    lips: float
    brows: float
    eye: float
    ears: float


def make_person(rng: np.random.Generator, gender: int) -> Person:
    """Return a random person."""
    male = gender == MALE
    tone = rng.beta(1.1, 1.6) * (len(SKINS) - 1)
    low = int(tone)
    skin = SKINS[low] + (SKINS[min(low + 1, len(SKINS) - 1)] - SKINS[low]) * (tone - low) + rng.normal(0, 3, 3)
    fair = np.array([0.12, 0.22, 0.26, 0.2, 0.14, 0.06]) if tone < 2 else np.array([0.7, 0.25, 0.05, 0, 0, 0])
    blue = [0.2, 0.15, 0.3, 0.15, 0.2] if tone < 2 else [0.45, 0.55, 0, 0, 0]
    shares = STYLES[gender]
    return Person(
        gender=gender,
        manly=float(np.clip(rng.normal(1 if male else -1, 0.42), -2, 2)),
        skin=np.clip(skin, 25, 252),
        hair=np.clip(HAIRS[rng.choice(len(HAIRS), p=fair)] * rng.uniform(0.8, 1.2), 8, 225),
        eyes=np.clip(EYES[rng.choice(len(EYES), p=blue)] * rng.uniform(0.8, 1.15), 10, 200),
        ageing=float(rng.normal(0, 4)),
        greying=float(rng.normal(52, 7)),
        balding=float(rng.normal(62, 17)) if male else 130.0,
        style=str(rng.choice(list(shares), p=list(shares.values()))),
        dyes=bool(rng.random() < (0.06 if male else 0.28)),
        makeup=float(rng.beta(1.6, 1.4)) if not male else 0.0,
        beard=float(rng.choice([0, rng.uniform(0.2, 1)], p=[0.45, 0.55])) if male else 0.0,
        glasses=float(rng.beta(0.8, 3)),
        width=float(rng.normal()),
        jaw=float(rng.normal()),
        nose=float(rng.normal()),
        lips=float(rng.normal()),
        brows=float(rng.normal()),
        eye=float(rng.normal()),
        ears=float(rng.normal()),
    )


@compare_by_value
@dataclass(frozen=True)
class Look:
    """A person in one photo, in face units: the eyes of an unposed adult lie at (-19.4, 0) and (19.4, 0), y down."""

    top: float  # y of the crown
    temple: float  # half width of the head above the ears
    cheek: float
    jaw: float
    chin: float  # y of the chin
    chin_width: float
    neck: float
    ear: float  # half height
    eye_mouth: float  # y of the mouth's corners
    eye: float  # half width of an eye
    open: float  # half height of an eye
    iris: float
    hood: float  # 0..1: drooping of the upper lid
    brow: float  # y of the brows
    brow_thick: float
    brow_colour: np.ndarray
    nose_y: float
    nose: float  # half width
    mouth: float  # half width
    lip_up: float
    lip_low: float
    lip_colour: np.ndarray
    smile: float
    teeth: float  # gap between the lips
    skin: np.ndarray
    blush: float
    eyes: np.ndarray
    wrinkles: float  # 0..1
    folds: float  # 0..1: depth of the smile lines; a baby has none
    sag: float  # 0..1
    hollow: float  # 0..1 sunken cheeks
    spots: int
    freckles: int
    hair: np.ndarray
    style: str
    hairline: float  # y of the hairline's middle
    receding: float  # 0..1 corners of the hairline; above 0.8 the top is bald
    density: float  # 0..1: opacity of the hair; with 1 no skin shows through
    volume: float
    fringe: float  # 0 none .. 1 down to the brows
    beard: float  # length 0..1 of a beard
    beard_kind: str  # none, stubble, moustache, goatee, full
    beard_colour: np.ndarray
    shadow: float  # eye shadow 0..1
    lashes: float
    earrings: bool
    glasses: str  # none, thin, thick
    clothes: np.ndarray


def make_look(person: Person, age: float, rng: np.random.Generator) -> Look:
    """Return the look of a person at an age (years) in one photo, with random variation."""
    child = 1 - ramp(age, 0, 15)  # 1 a newborn, 0.5 at seven
    baby = 1 - ramp(age, 0, 5)
    grown = ramp(age, 10, 18)  # 0..1: effect of gender on the build
    seems = age + person.ageing * ramp(age, 20, 60)
    old = ramp(seems, 25, 85)
    very_old = ramp(seems, 50, 92)
    manly = person.manly * (0.15 + 0.85 * grown)
    male, adult = person.gender == MALE, age >= 16
    makeup = person.makeup * ramp(age, 13, 20) * rng.uniform(0.3, 1)

    grey = ramp(seems, person.greying - 16, person.greying + 20) * (0.15 if person.dyes else 1)
    natural = person.hair + (GREY - person.hair) * min(grey * 1.15, 1)
    natural = natural + (WHITE - natural) * ramp(grey, 0.7, 1) * 0.85
    infant_hair = natural + (person.skin * 0.75 - natural) * 0.3 * baby
    receding = ramp(age, person.balding - 26, person.balding + 16) if male else 0.25 * very_old

    style, fringe = _style(person, age, rng)
    kind, length = _beard(person, age, rng)
    smile = float(np.clip(rng.normal(0.35, 0.45), -0.4, 1.1))
    skin = person.skin * (1 - 0.05 * old) + np.array((-4, -2, 6)) * child + np.array((4, 4, 0)) * very_old
    lip = skin * np.array((0.66, 0.62, 0.86)) - np.array((0, 0, 6)) * old
    lipstick = np.array([(60, 40, 190), (90, 70, 200), (60, 30, 140), (120, 90, 210)])[rng.integers(4)]
    return Look(
        top=-69 - 11 * child + 1.5 * very_old,
        temple=40.5 + 7.5 * child + 1.0 * manly + 1.2 * person.width,
        cheek=40.2 + 6.6 * child + 1.2 * manly + 1.5 * person.width - 1.2 * very_old,
        jaw=31.5 + 7.2 * child + 2.4 * manly + 1.4 * person.jaw + 1.0 * person.width + 3.2 * old * (1 - 0.3 * very_old),
        chin=74.5 - 11 * child + 2.0 * manly + 0.8 * person.jaw + 1.5 * old,
        chin_width=14.5 + 4.5 * child + 2.4 * manly + 0.8 * person.jaw,
        neck=23 - 8 * child + 3.4 * manly * grown - 1.5 * very_old,
        ear=13 - 0.5 * child + 3.0 * old + 0.5 * manly + 0.6 * person.ears,
        eye_mouth=45.0 - 3.6 * child + 0.5 * manly + 0.8 * old,
        eye=8.6 + 2.2 * child - 0.35 * manly + 0.35 * person.eye - 0.9 * old,
        open=3.9 + 1.9 * child - 0.3 * manly + 0.3 * person.eye - 1.1 * old - 0.4 * max(smile, 0),
        iris=3.7 + 1.15 * child,
        hood=float(np.clip(0.1 + 0.75 * old + 0.12 * manly + 0.08 * person.eye, 0, 1)),
        brow=-12.8 + 0.6 * child + 1.3 * manly + 0.7 * old + rng.normal(0, 0.5),
        brow_thick=max(0.5, 1.9 - 1.2 * child + 0.75 * manly + 0.3 * person.brows + 0.25 * old * manly),
        brow_colour=(person.hair * 0.8 + (GREY - person.hair) * 0.75 * grey) * (1 - 0.55 * child) + skin * 0.55 * child,
        nose_y=22 - 2.6 * child + 1.0 * old,
        nose=9.4 - 2.4 * child + 0.7 * manly + 0.7 * person.nose + 1.7 * old,
        mouth=15.6 - 3.4 * child + 0.5 * manly + 1.5 * max(smile, 0),
        lip_up=max(0.9, 3.1 + 0.2 * child - 0.45 * manly + 0.5 * person.lips - 1.7 * old),
        lip_low=max(1.4, 4.6 - 0.2 * child - 0.5 * manly + 0.7 * person.lips - 2.0 * old),
        lip_colour=lip + (lipstick - lip) * 0.85 * makeup,
        smile=smile,
        teeth=float(rng.uniform(1.5, 4.2)) if smile > 0.5 and age > 1 else 0.0,
        skin=np.clip(skin, 15, 253),
        blush=0.28 * child + 0.3 * makeup + rng.uniform(0, 0.12),
        eyes=person.eyes,
        wrinkles=float(np.clip(ramp(seems, 24, 88) * rng.normal(1, 0.08), 0, 1)),
        folds=max(smile, 0) * (1 - 0.8 * child),
        sag=float(ramp(seems, 40, 90)),
        hollow=float(ramp(seems, 55, 95) * rng.uniform(0.4, 1)),
        spots=int(rng.poisson(9 * ramp(seems, 52, 90))),
        freckles=int(rng.poisson(14)) if age > 3 and person.skin[1] > 170 and rng.random() < 0.12 else 0,
        hair=np.clip(infant_hair, 8, 240),
        style=style,
        hairline=-45 - 13 * baby - 1.0 * child - 4 * receding + 1.2 * person.width,
        receding=float(receding),
        density=float(np.clip(0.3 + 0.7 * ramp(age, 0.2, 3) - (0.3 * very_old), 0.25, 1)),
        volume=float(max(0.3, 1 + 0.2 * rng.normal() - 0.35 * very_old - 0.5 * baby)),
        fringe=fringe,
        beard=length,
        beard_kind=kind,
        beard_colour=np.clip(person.hair + (WHITE - person.hair) * min(1, 1.2 * grey if male else 0), 8, 235),
        shadow=makeup,
        lashes=float(np.clip(0.35 - 0.25 * manly + 0.6 * makeup, 0, 1.2)),
        earrings=bool(not male and age > 5 and rng.random() < (0.35 if adult else 0.15)),
        glasses=_glasses(person, age, rng),
        clothes=rng.uniform(20, 225, 3),
    )


def _style(person: Person, age: float, rng: np.random.Generator):
    """Return (style, fringe) of the hair: small children of both genders wear it much alike, many old women short."""
    style = person.style
    if age < 1.5:
        style = "short"
    elif age < 8 and rng.random() < 0.6 - 0.05 * age:
        style = str(rng.choice(["short", "bob", "curly", "long"], p=[0.5, 0.25, 0.13, 0.12]))
    elif person.gender == FEMALE and style in ("long", "wavy") and rng.random() < SHORT_OF_OLD * ramp(age, 45, 75):
        style = str(rng.choice(["short", "bob", "curly"]))
    fringe = 0.0
    if age > 1.5 and style != "buzz" and rng.random() < (0.28 if person.gender == FEMALE or age < 14 else 0.08):
        fringe = float(rng.uniform(0.5, 1))
    return style, fringe


def _beard(person: Person, age: float, rng: np.random.Generator):
    """Return (kind, length) of a man's beard on the day, from the first down at sixteen."""
    growth = person.beard * ramp(age, 15, 24)
    if growth <= 0:
        shaved = person.gender == MALE and age > 17 and rng.random() < 0.5
        return ("stubble", float(rng.uniform(0.05, 0.3))) if shaved else ("none", 0.0)
    if rng.random() < 0.3:
        return "stubble", float(rng.uniform(0.1, 0.6))
    return str(rng.choice(["moustache", "goatee", "full", "stubble"], p=[0.22, 0.23, 0.35, 0.2])), float(growth)


def _glasses(person: Person, age: float, rng: np.random.Generator) -> str:
    share = person.glasses * (0.25 + 0.4 * ramp(age, 5, 16) + 0.9 * ramp(age, 42, 65)) * (age > 3)
    return str(rng.choice(["thin", "thick"])) if rng.random() < share else "none"

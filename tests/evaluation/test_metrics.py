"""Measures, against numbers worked out by hand."""

import numpy as np
import pytest

from agedge.evaluation.metrics import age_errors, calibrate, format_table, gender_hits, measure
from agedge.evaluation.plots import plot_curves, plot_errors
from agedge.runtime.card import Card

LABELS = np.array([[0, 30, 30], [1, 20, 29], [1, 70, 120], [-1, 4, 4], [0, -1, -1], [1, 15, 25]], np.float32)
AGES = np.array([33, 31, 80, 1, 50, 18], np.float32)
P_MALE = np.array([0.1, 0.4, 0.9, 0.5, 0.6, 0.9], np.float32)


def test_errors_are_distances_to_the_interval():
    np.testing.assert_equal(age_errors(LABELS, AGES), [3, 2, 0, -3, np.nan, 0])
    np.testing.assert_equal(gender_hits(LABELS, P_MALE), [1, 0, 1, np.nan, 0, 1])


def test_measures_by_band():
    measured = measure(LABELS, AGES, P_MALE)
    assert (measured["n"], measured["age_mae"], measured["age_bias"]) == (6, 1.6, 0.4)
    assert (measured["age_cs3"], measured["age_cs5"], measured["gender_acc"]) == (1.0, 1.0, 0.6)
    bands = {row["band"]: row for row in measured["bands"]}
    assert [row["n"] for row in bands.values()] == [1, 0, 2, 0, 0, 1]
    assert bands["19-30"]["age_mae"] == 2.5 and bands["19-30"]["gender_acc"] == 0.5
    assert bands["0-5"]["gender_acc"] is None and bands["6-18"]["age_mae"] is None
    assert measured["adults"]["band"] == "21-60" and measured["adults"]["n"] == 1
    assert "0-5" in format_table(measured) and "6-18" not in format_table(measured)


def test_calibrated_intervals_hold_the_share_they_promise():
    rng = np.random.default_rng(0)
    true = rng.uniform(1, 80, 4000)
    ages = true + rng.normal(2, 1 + true / 10)
    labels = np.stack([np.zeros(4000), true, true], axis=1).astype(np.float32)
    card = Card("a", {}, {}, {}, interval=calibrate(labels[:2000], ages[:2000], level=0.8))
    low, high = card.age_interval(ages[2000:])
    inside = (low <= true[2000:]) & (true[2000:] <= high)
    assert inside.mean() == pytest.approx(0.8, abs=0.03)
    old = ages[2000:] > 60
    assert (high - low)[old].mean() > 2 * (high - low)[ages[2000:] < 20].mean()


def test_too_few_faces_calibrate_nothing():
    assert calibrate(LABELS, AGES) == {}
    low, high = Card("a", {}, {}, {}).age_interval(AGES)
    assert np.isnan(low).all() and np.isnan(high).all()


def test_pictures_are_written_without_a_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    plot_errors(LABELS, AGES, tmp_path / "errors.png")
    rows = [{"epoch": e, "loss": 3 / e, "train_age_mae": 9, "val_age_mae": None, "val_gender_acc": 0.9} for e in (1, 2)]
    plot_curves(rows, tmp_path / "curves.png")
    for name in ("errors.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

"""report.html: its numbers are those that were measured, and every part stands or says why not."""

import base64
import html
import re
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.evaluation.calibration import measure_coverage, measure_reliability, share_interval
from agedge.evaluation.evaluate import predict_records
from agedge.evaluation.metrics import BANDS, calibrate, measure
from agedge.evaluation.record_sources import RecordSource, find_sources
from agedge.evaluation.report.page import Facts, render_page
from agedge.evaluation.report.write import explain_calibration, write_report
from agedge.evaluation.subgroups import choose_groups, confuse_genders
from agedge.labels import Label, exact
from agedge.records import RecordWriter, encode
from agedge.runtime.card import Card
from agedge.runtime.outputs import AGE_AND_GENDER, PROBABILITY_MALE, YEARS, Prediction

SIZE = 16
NAMES = ("curves", "errors", "bias", "confusion", "gender", "calibration", "worst", "race", "unread", "recipe")
BROKEN = None  # a record that is no image


def write_faces(path, faces):
    """A .rec of faces ((label, age to say, P(male) to say), CSV columns): a model that looks at the colours says so."""
    with RecordWriter(path) as writer:
        for face, columns in faces:
            if face is BROKEN:
                writer.write(exact(0, 99), b"no JPEG", **columns)
                continue
            label, age, p_male = face
            image = np.full((SIZE, SIZE, 3), (round(age * 2), 128, round(p_male * 255)), np.uint8)
            writer.write(label, encode(image), **columns)
    return path


def predict(images):
    """What the colours say: exact to the rounding of a JPEG."""
    means = images.reshape(len(images), -1, 3).mean(axis=1)
    return Prediction(np.round(means[:, 0] / 2), (means[:, 2] / 255).astype(np.float32))


def predict_gender(images):
    return replace(predict(images), age=np.full(len(images), np.nan))


def predict_age(images):
    return replace(predict(images), p_male=np.full(len(images), np.nan))


def predict_groups(images):
    """Sure of the group of the year."""
    years = predict(images).age
    groups = np.array([[low <= year <= high for low, high in BANDS] for year in years], np.float32)
    return Prediction(years, np.full(len(images), np.nan), groups)


def describe(outputs=AGE_AND_GENDER, **fields):
    return Card(
        name="drawn", network={"name": "drawn"}, input={"name": "data", "size": SIZE}, outputs=outputs, **fields
    )


def report(folder, files, model=predict, card=None, **options):
    """The text of the report, what was answered, and its sections by key."""
    predictions = predict_records(model, files, SIZE)
    folder.mkdir(exist_ok=True)
    write_report(folder / "report.html", card or describe(), predictions, **options)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not list(folder.glob("*.partial"))
    found = re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.S)
    assert tuple(key for key, _ in found) == NAMES
    return text, predictions, dict(found)


def read_table(section):
    """The rows of a section's tables, as lists of texts."""
    rows = re.findall(r"<tr>(.*?)</tr>", section, re.S)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def read_sheet(section):
    """(mean BGR, the lines below) of every face."""
    found = re.findall(r'base64,([^"]+)"><figcaption><b>(.*?)</b><br>(.*?)</figcaption>', section)
    sheet = []
    for data, wrong, lines in found:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        sheet.append((image.mean(axis=(0, 1)), html.unescape(wrong), *map(html.unescape, lines.split("<br>"))))
    return sheet


def mixed_faces(count=60):
    """Faces of all ages, both genders; every seventh gender and many ages wrong, the last one by far."""
    faces = []
    for nth in range(count):
        label = exact(nth % 2, nth)
        p_male = (0.2 if nth % 2 else 0.8) if nth % 7 == 0 else (0.9 if nth % 2 else 0.1)
        columns = {"file": f"photos/{nth}.jpg", "race": ("one", "two", "")[nth % 3]}
        faces.append(((label, nth + nth % 5 - 1 if nth else 0, p_male), columns))
    faces[-1] = ((exact(1, count - 1), 9, 0.02), faces[-1][1])
    return faces


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The report of faces of all kinds, for the tests that look at it."""
    folder = tmp_path_factory.mktemp("mixed")
    return report(folder / "out", [write_faces(folder / "val.rec", mixed_faces())])


def test_the_table_has_every_age_and_gender_as_measured(mixed):
    text, predictions, parts = mixed
    measured = measure(predictions.labels, predictions.ages, predictions.p_male)
    rows = read_table(parts["errors"])
    assert rows[0] == ["age", "", "faces", "MAE", "bias", "CS@5", "gender"]
    bands = [row for row in rows[1:] if row[1] == "all"]
    for row, band in zip(bands, [*(band for band in measured["bands"] if band["n"]), {"band": "all", **measured}]):
        forms = ("{:.2f}", "{:+.2f}", "{:.1%}", "{:.1%}")
        values = [band[key] for key in ("age_mae", "age_bias", "age_cs5", "gender_acc")]
        assert row == [band["band"], "all", str(band["n"]), *(form.format(value) for form, value in zip(forms, values))]
    assert len(bands) == 6  # five bands with faces, and all
    women = predictions.labels[:, 0] == 0
    theirs = measure(predictions.labels[women], predictions.ages[women], predictions.p_male[women])
    shown = next(row for row in rows[rows.index(bands[-1]) :] if row[1] == "female")
    assert shown[2:4] == ["30", f"{theirs['age_mae']:.2f}"] and shown[6] == f"{theirs['gender_acc']:.1%}"
    figures = dict((name, value) for value, name in re.findall(r"<div><b>(.*?)</b><span>(.*?)</span>", text))
    assert figures["age MAE, years"] == f"{measured['age_mae']:.2f}" and figures["faces"] == "60"
    assert figures["at most 5 years off (CS@5)"] == f"{measured['age_cs5']:.1%}"


def test_a_report_is_one_small_file_that_asks_nobody(mixed):
    text, _, parts = mixed
    assert len(text) < 3_000_000
    assert "<script" not in text and not re.search(r'(src|href)="(?!data:|#)', text) and "url(" not in text
    assert "no log.csv" in parts["curves"] and "it was not calibrated" in parts["calibration"]
    assert "neither a run nor the model" in parts["recipe"] and "Every record could be read" in parts["unread"]
    pictures = re.findall(r'<img class="plot[^"]*" alt="([^"]+)" src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == 7  # bias, scatter, confusion, gender, reliability, two by race
    for _, data in pictures:
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).std() > 5


def test_the_confusions_count_the_faces(mixed):
    _, predictions, parts = mixed
    rows = read_table(parts["confusion"])
    assert rows[0] == ["true", "0-5", "6-18", "19-30", "31-45", "46-65", "66+"]
    assert sum(int(cell) for row in rows[1:] for cell in row[1:]) == 60
    assert rows[5][0] == "46-65" and rows[5][2] == "1", "the 59 years predicted to be 9"
    (women, men) = confuse_genders(predictions.labels, predictions.p_male)
    assert read_table(parts["gender"])[1:] == [
        ["female", "30", str(women[0]), str(women[1]), f"{women[0] / 30:.1%}"],
        ["male", "30", str(men[0]), str(men[1]), f"{men[1] / 30:.1%}"],
    ]
    assert women[1] == 5 and men[0] == 5  # of 0, 14, .. 56 and of 7, 21, 35, 49 and the last


def test_answers_are_traced_to_their_records_past_a_broken_one_in_the_first_file(tmp_path):
    right = [((exact(0, age), age, 0.1), {"file": f"a{age}.jpg", "race": "one"}) for age in (20, 30)]
    off = ((exact(0, 40), 90, 0.1), {"file": "off.jpg", "race": "two"})
    wrong = ((exact(1, 50), 50, 0.01), {"file": "<wrong>.jpg", "race": "two"})
    first = write_faces(tmp_path / "a.rec", [right[0], (BROKEN, {"file": "broken.jpg", "race": "no"}), off, right[1]])
    second = write_faces(tmp_path / "b.rec", [right[0], wrong])
    text, predictions, parts = report(tmp_path / "out", [first, second])
    a, b = str(first), str(second)
    assert find_sources(predictions) == [
        RecordSource(a, 0),
        RecordSource(a, 2),
        RecordSource(a, 3),
        RecordSource(b, 0),
        RecordSource(b, 1),
    ]
    (colour, error, line, record), (other, gender, labelled, its) = read_sheet(parts["worst"])
    assert (error, line, record) == ("+50 years", "true 40, predicted 90", "a.rec record 2 off.jpg")
    assert (labelled, its) == ("labelled male", "b.rec record 1 <wrong>.jpg") and gender.startswith(
        "predicted female, 9"
    )
    np.testing.assert_allclose(colour, (180, 128, 26), atol=4)
    np.testing.assert_allclose(other, (100, 128, 3), atol=4)
    assert "<wrong>" not in text
    assert f"<dt>{a}, 1 records</dt><dd>1</dd>" in parts["unread"]
    races = {row[0]: row for row in read_table(parts["race"])[1:]}
    assert races["one"][1:3] == ["3", "0.00"] and races["two"][1:3] == ["2", "25.00"] and len(races) == 2
    assert races["two"][5] == "50.0%"


def test_a_file_that_changed_since_is_refused(tmp_path):
    files = [write_faces(tmp_path / f"{name}.rec", mixed_faces(5)) for name in "ab"]
    predictions = predict_records(predict, files, SIZE)
    write_faces(tmp_path / "a.rec", mixed_faces(4))
    with pytest.raises(AgedgeError, match="a.rec: changed since it was read: 9 faces, not 10"):
        find_sources(predictions)


def test_labels_that_are_intervals_or_unknown(tmp_path):
    bounds = [(0, 2), (3, 9), (10, 19), (70, 120)]
    faces = [((Label(1, *bounds[nth % 4]), 15, 0.9), {}) for nth in range(16)]
    faces += [((Label(-1, -1, -1), 15, 0.9), {}), ((exact(0, 5), 15, 0.9), {})]
    file = write_faces(tmp_path / "val.rec", faces)
    _, predictions, parts = report(tmp_path / "out", [file], card=describe(interval=calibrate_anew()))
    assert choose_groups(predictions.labels) == bounds
    rows = [row for row in read_table(parts["errors"])[1:] if row[1] == "all"]
    assert [row[:4] for row in rows] == [
        ["0-2", "all", "4", "13.00"],
        ["3-9", "all", "5", "6.80"],
        ["10-19", "all", "4", "0.00"],
        ["70+", "all", "4", "55.00"],
        ["all", "all", "18", f"{(13 * 4 + 6 * 4 + 10 + 55 * 4) / 17:.2f}"],
    ]
    assert "1 faces, of unknown age" in parts["errors"]
    assert "16 faces whose label is an interval" in parts["bias"] and "1 exact ages" in parts["bias"]
    assert [row[0] for row in read_table(parts["confusion"])] == ["true", "0-2", "3-9", "10-19", "70+"]
    assert read_table(parts["calibration"])[-1][:2] == ["all", "1"], "only where the age is exact"
    assert read_sheet(parts["worst"])[0][2:] == ("true 70-120, predicted 15", "record 3")


def calibrate_anew():
    """Intervals from 5 years below to 10 above."""
    return {"level": 0.8, "age": [0.0, 100.0], "low": [-5.0, -5.0], "high": [10.0, 10.0]}


def test_a_network_that_answers_only_gender(tmp_path):
    file = write_faces(tmp_path / "val.rec", [((Label(nth % 2), 0, 0.9), {}) for nth in range(8)])
    text, _, parts = report(tmp_path / "out", [file], predict_gender, describe({"p_male": PROBABILITY_MALE}))
    for key in ("bias", "confusion", "worst"):
        assert "Left out: no age is both known and predicted" in parts[key]
    assert read_table(parts["errors"])[1] == ["all", "all", "8", "-", "-", "-", "50.0%"]
    assert "age MAE, years" not in text and "<b>50.0%</b>" in text
    assert len(read_sheet(parts["worst"])) == 4


def test_a_network_that_answers_only_age(tmp_path):
    file = write_faces(tmp_path / "val.rec", mixed_faces())
    text, _, parts = report(tmp_path / "out", [file], predict_age, describe({"age": YEARS}))
    assert "Left out: no gender is both known and predicted" in parts["gender"]
    assert parts["calibration"].count("Left out") == 2 and parts["worst"].count("Left out") == 1
    assert "<span>gender accuracy</span>" not in text and len(read_sheet(parts["worst"])) == 24


def test_a_network_of_age_groups_is_judged_by_its_own(tmp_path):
    faces = [((exact(0, age), age, 0.1), {}) for age in (3, 10, 25, 40, 50)] + [((exact(0, 80), 40, 0.1), {})]
    file = write_faces(tmp_path / "val.rec", faces)
    answer = {"kind": "age_groups", "bounds": [list(band) for band in BANDS]}
    card = describe({"age": YEARS, "age_group": answer})
    _, _, parts = report(tmp_path / "out", [file], predict_groups, card)
    assert "Accuracy: 83.3% of 6 faces" in parts["confusion"] and "the model&#39;s own" in parts["confusion"]
    assert read_table(parts["confusion"])[-1] == ["66+", "0", "0", "0", "1", "0", "0"]


def test_a_report_of_a_run_has_its_curves_recipe_and_test(tmp_path):
    folder = tmp_path / "runs" / "first <run>"
    (folder / "model").mkdir(parents=True)
    header = "epoch,step,lr,loss,train_age_mae,train_gender_acc,val_age_mae,val_gender_acc"
    (folder / "log.csv").write_text(f"{header}\n1,9,0.1,3.0,9,,8,\n2,18,0.05,2.0,7,,6,\n")
    (folder / "recipe.yaml").write_text("network:\n  name: drawn & quartered\n")
    (folder / "best.ckpt").write_bytes(b"")
    card = describe({"age": YEARS}, training={"best_epoch": 2}, interval=calibrate_anew(), terms="a <b> term")
    card.save(folder / "model")
    file = write_faces(tmp_path / "val.rec", mixed_faces())
    others = [("test", {**measure(*answers_of(file)), "age_mae": 7.125})]
    text, _, parts = report(folder, [file], card=card, calibrated=True, others=others)
    assert "<h1>first &lt;run&gt;</h1>" in text and re.search(r"best epoch</dt><dd>2, saved 2\d{3}-\d\d-\d\d", text)
    captions = re.findall("<figcaption>(.*?)</figcaption>", parts["curves"])
    assert captions == ["training loss by epoch", "age MAE (years) by epoch", "learning rate by epoch"]
    assert "<details>" in parts["recipe"] and "drawn &amp; quartered" in parts["recipe"]
    assert "a &lt;b&gt; term" in parts["recipe"] and "on these very faces" in parts["calibration"]
    assert next(row for row in read_table(text) if row[0] == "test")[:3] == ["test", "60", "7.12"]


def answers_of(file):
    predictions = predict_records(predict, [file], SIZE)
    return predictions.labels, predictions.ages, predictions.p_male


def test_what_lies_beside_and_is_damaged_is_told_and_left_out(tmp_path, caplog):
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("a: 1\n")
    (folder / "log.csv").write_text("epoch,loss\n1,three\n")
    file = write_faces(tmp_path / "val.rec", mixed_faces(8))
    file.with_suffix(".csv").write_text("id,race\nfirst,one\n")
    card = describe()
    card.save(folder / "model")
    _, _, parts = report(folder, [file], card=card)
    assert "Left out" in parts["curves"] and "Left out: no NAME.csv beside the data names a race" in parts["race"]
    assert "log.csv: not the log of a run" in caplog.text and "val.csv: not the table of val.rec" in caplog.text


def test_who_calibrated_the_intervals_is_said(tmp_path):
    predictions = predict_records(predict, [write_faces(tmp_path / "val.rec", mixed_faces(8))], SIZE)
    for count, words in ((8, "the shares are optimistic"), (7, "they may have faces in common")):
        known = {"validation": [{"file": "val.rec", "source": None, "count": count}]}
        assert words in explain_calibration(describe(training=known), predictions, False)
    assert "calibrated on other faces, as far as" in explain_calibration(describe(), predictions, False)


def test_coverage_counts_exact_ages_within_the_intervals(tmp_path):
    labels = np.array([[0, 3, 3], [0, 4, 4], [1, 50, 50], [1, 20, 29], [1, -1, -1]], np.float32)
    low, high = np.array([1.0, 5, 50, 0, 0]), np.array([3.0, 9, 60, 99, 99])
    rows = {row["group"]: row for row in measure_coverage(labels, low, high, BANDS)}
    assert rows["0-5"] == {"group": "0-5", "n": 2, "covered": 0.5, "width": 3.0}
    assert rows["46-65"]["covered"] == 1.0 and rows["19-30"]["n"] == 0 and rows["19-30"]["covered"] is None
    assert rows["all"]["n"] == 3 and rows["all"]["covered"] == pytest.approx(2 / 3, abs=1e-6)
    drawn = np.random.default_rng(1).normal(0, 1, 4000)
    true = np.random.default_rng(2).uniform(20, 60, 4000)
    truth = np.stack([np.zeros(4000), true, true], axis=1).astype(np.float32)
    card = describe(interval=calibrate(truth, true + drawn))
    inside = measure_coverage(truth, *card.age_interval(true + drawn), BANDS)[-1]["covered"]
    assert inside == pytest.approx(0.8, abs=0.04)


def test_reliability_is_the_distance_of_the_sure_from_the_right():
    labels = np.array([[1, 3, 3]] * 3 + [[0, 3, 3]] * 3 + [[-1, 3, 3]], np.float32)
    p_male = np.array([0.95, 0.95, 0.35, 0.95, 0.05, 1.0, 0.5], np.float32)
    measured = measure_reliability(labels, p_male)
    assert [(row["low"], row["n"], row["male"]) for row in measured["bins"]] == [
        (0.0, 1, 0.0),
        (0.3, 1, 1.0),
        (0.9, 4, 0.5),
    ]
    assert measured["n"] == 6 and measured["ece"] == pytest.approx((0.05 + 0.65 + 4 * 0.4625) / 6, abs=1e-6)
    assert measure_reliability(labels[-1:], p_male[-1:]) == {"n": 0, "ece": None, "bins": []}


def test_the_interval_of_a_share_holds_it_and_is_never_a_point():
    assert share_interval([1, 0] * 50) == pytest.approx((0.4038, 0.5962), abs=1e-3)
    low, high = share_interval([1.0] * 4)
    assert low == pytest.approx(0.51, abs=0.01) and high == pytest.approx(1)
    assert share_interval([]) == (0, 1)


HOSTILE = """<script>alert('1')</script>" onerror="x\nnext & {{ 7 * 7 }}"""


def test_hostile_names_are_escaped_everywhere(tmp_path):
    """As file of a record, race, name, terms and recipe, in texts and in attributes."""
    faces = [((exact(nth % 2, 20), 70, 0.99), {"file": HOSTILE, "race": HOSTILE}) for nth in range(4)]
    file = write_faces(tmp_path / """a" onload='x' <b>.rec""", faces)
    card = replace(describe(terms=HOSTILE, training={"recipe": {HOSTILE: HOSTILE}}), name=HOSTILE)
    text, _, parts = report(tmp_path / "out", [file], card=card, others=[(HOSTILE, measure(*answers_of(file)))])

    class Reader(HTMLParser):
        tags, attributes = Counter(), set()

        def handle_starttag(self, tag, attrs):
            self.tags[tag] += 1
            self.attributes.update(name for name, _ in attrs)

    Reader().feed(text)
    assert not Reader.tags["script"]
    assert Reader.attributes <= {"lang", "charset", "name", "content", "id", "class", "href", "scope", "src", "alt"}
    assert html.unescape(re.search("<h1>(.*?)</h1>", text, re.S)[1]) == HOSTILE
    assert all(HOSTILE not in part for part in parts.values()) and "<b>.rec: 4 faces" in html.unescape(text)
    assert all(HOSTILE in html.unescape(parts[key]) for key in ("worst", "race", "recipe"))


def test_a_file_name_that_is_not_utf8_is_shown_with_escapes():
    text = render_page("run", [Facts([("data", "odd\udcff.rec")])], [], "footer")
    assert "odd\\udcff.rec" in text and text.encode("utf-8")


def test_a_report_without_jinja_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(AgedgeError, match="report.html: the package jinja2 is not installed"):
        render_page("run", [], [], "footer")

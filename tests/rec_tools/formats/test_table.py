"""Tables of labels as they are distributed and as spreadsheets save them; the words that they have for ages."""

import pytest

from agedge.errors import AgedgeError
from agedge.labels import Label
from rec_tools.formats.age_groups import parse_age, restore_group
from rec_tools.formats.table import (
    FieldFaults,
    check_columns,
    find_tables,
    parse_gender,
    read_box,
    read_columns,
    read_label,
    read_table,
)
from rec_tools.rows import Dropped

FAIRFACE = ((0, 2), (3, 9), (10, 19), (20, 29), (60, 69))


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def cells_of(path, *needs):
    return [cells for _, cells in read_table(path, *needs)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_any_separator_end_of_line_and_byte_order_mark(tmp_path, separator, end, encoding):
    lines = [["File", " Age ", '"Full, name; of | it"'], ["a.jpg", " 3 ", '"Zoë, O""Neil; x | y"'], ["b.jpg", "4", ""]]
    path = write(tmp_path / "t.csv", end.join(separator.join(line) for line in lines), encoding)
    assert cells_of(path, ("file", "age")) == [
        {"file": "a.jpg", "age": "3", "full, name; of | it": 'Zoë, O"Neil; x | y'},
        {"file": "b.jpg", "age": "4", "full, name; of | it": ""},
    ]


def test_a_broken_line_spoils_itself_only_and_is_named(tmp_path):
    lines = [
        "file,age",
        "a,1",
        "",
        'b,"2',
        "c,3",
        "d",
        "e,5,6",
        "f,6,,",
        ",,",
        " ",
        ",7",
        '"g,8",9',
        'h,"1"0',
        "i," + "9" * 200000,
    ]
    path = write(tmp_path / "t.csv", "\n".join(lines) + "\n")
    rows = dict(read_table(path, ("age",), ("file",)))
    good = {number: cells for number, cells in rows.items() if isinstance(cells, dict)}
    assert good == {
        2: {"file": "a", "age": "1"},
        5: {"file": "c", "age": "3"},
        8: {"file": "f", "age": "6"},
        12: {"file": "g,8", "age": "9"},
    }
    reasons = {number: cells.reason for number, cells in rows.items() if isinstance(cells, Dropped)}
    assert reasons == {
        4: "line not understood",
        6: "line with cells missing or too many",
        7: "line with cells missing or too many",
        11: "row without a file",
        13: "line not understood",
        14: "line not understood",
    }
    assert rows[4].id == "t.csv, line 4" and rows[7].detail == "3 cells under 2 columns"


def test_2304_pixels_fit_into_a_cell(tmp_path):
    pixels = " ".join(["255"] * 2304)
    assert cells_of(write(tmp_path / "t.csv", f"age,pixels\n3,{pixels}\n")) == [{"age": "3", "pixels": pixels}]


@pytest.mark.parametrize(
    "text, encoding, says",
    [
        ("", "utf-8", "t.csv: empty"),
        ("\n \n", "utf-8", "t.csv: empty"),
        ("file,years\na,1\n", "utf-8", "t.csv: needs the columns file, age; it has file, years"),
        ("file;file;age\n", "utf-8", "t.csv: its header has the column file twice"),
        ("file,age\na,1\nZo\x81,2\n", "latin-1", "t.csv: line 3: not UTF-8 .byte 0x81."),
    ],
)
def test_what_is_no_such_table_is_named(tmp_path, text, encoding, says):
    with pytest.raises(AgedgeError, match=says):
        cells_of(write(tmp_path / "t.csv", text, encoding), ("age",), ("file",))


def test_missing_tables_are_named(tmp_path):
    with pytest.raises(AgedgeError, match="t.csv: missing"):
        read_columns(tmp_path / "t.csv")
    with pytest.raises(AgedgeError, match="none of a.csv, b.csv in it or in lists"):
        find_tables(tmp_path, {"train": "a.csv", "val": "b.csv"}, ("", "lists"))
    (tmp_path / "lists").mkdir()
    path = write(tmp_path / "lists/b.csv", "file\n")
    assert find_tables(tmp_path, {"train": "a.csv", "val": "b.csv"}, ("", "lists")) == {"val": path}


@pytest.mark.parametrize(
    "text, ages",
    [
        ("34", (34, 34)),
        (" 34.0 ", (34, 34)),
        ("34.57", (34.57, 34.57)),
        ("20-29", (20, 29)),
        ("20 – 29", (20, 29)),
        ("3 to 9", (3, 9)),
        ("(25, 32)", (25, 32)),
        ("(8, 23)", (8, 23)),
        ("[0,2]", (0, 2)),
        ("more than 70", (70, 120)),
        ("More than 70", (70, 120)),
        ("70+", (70, 120)),
        ("over 70", (70, 120)),
        ("60 and over", (60, 120)),
        ("2,75", (2.75, 2.75)),
        ("0,5", (0.5, 0.5)),
        ("34,5", (34.5, 34.5)),
        (".5", (0.5, 0.5)),
        ("25, 32", (25, 32)),
        *((text, (34, 34)) for text in ("34 years", "34y", "34 yo", "34 years old", "~34", "ca. 34", "aged 34")),
        *((text, (20, 29)) for text in ("20~29", "20_29", "20—29", "20−29", "20..29", "20-29 years")),
        *((text, (0, 5)) for text in ("<5", "under 5", "5 and under", "≤5", "up to 5 years")),
        *((text, (60, 120)) for text in ("60+ years", ">=60", "≥ 60", "60 years and older")),
        ("20s", (20, 29)),
        ("2,5-3,5", (2.5, 3.5)),
        ("6 months", (0.5, 0.5)),
        ("?", (-1, -1)),
        ("", (-1, -1)),
        ("None", (-1, -1)),
        ("-1", (-1, -1)),
        ("-1 to -1", (-1, -1)),
    ],
)
def test_ages_and_groups_are_read_as_they_are_meant(text, ages):
    assert parse_age(text) == ages


@pytest.mark.parametrize(
    "text",
    ["old", "9-Mar", "3-", "1e2", "inf", "20-29-39", "(25; 32)", "1,2,5", "12,", "1980-05-12"],
)
def test_what_is_no_age_is_not_guessed(text):
    with pytest.raises(ValueError, match="is not an age or a group"):
        parse_age(text)


@pytest.mark.parametrize(
    "text, group",
    [
        *((text, (3, 9)) for text in ("9-Mar", "Mar-09", "03-Sep", "3-Sep", "09-mar-2024", "2024-03-09 00:00:00")),
        *((text, (10, 19)) for text in ("19-Oct", "Oct-19", "10/19/2024", "October 19")),
        *(
            (text, None)
            for text in ("3-9", "9-3", "30-Mar", "2-Jan", "9-Foo", "more than 70", "20-29", "3-Sep-9-1", "")
        ),
    ],
)
def test_a_spreadsheets_dates_are_mended_where_a_group_is_certain(text, group):
    assert restore_group(text, FAIRFACE) == group


def test_gender_and_age_make_a_label_or_a_reason():
    assert read_label("a", "Female", "3-9") == Label(0, 3, 9)
    assert read_label("a", "M", "34") == read_label("a", "1.0", "34.0") == Label(1, 34, 34)
    assert read_label("a", "u", "None") == read_label("a", "", "-1") == Label(-1, -1, -1)
    assert read_label("a", "x", "3") == Dropped("a", "gender not understood", "x")
    for age in ("200", "29-20", "old", "-5", "25,32"):
        assert read_label("a", "?", age).reason == "age not understood"


def test_what_is_not_understood_costs_its_own_field_and_is_counted(caplog):
    faults = FieldFaults()
    assert read_label("a", "other", "3", faults) == Label(-1, 3, 3)
    assert read_label("b", "x", "4", faults) == Label(-1, 4, 4)
    for age in ("200", "29-20", "old"):
        assert read_label("c", "woman", age, faults, age_needed=False) == Label(0, -1, -1)
    faults.log("t.csv")
    assert "t.csv: gender not understood, and left unknown (2): 'other', 'x'" in caplog.text
    assert "t.csv: age not understood, and left unknown (3): '200', '29-20', 'old'" in caplog.text


@pytest.mark.parametrize(
    "words, gender",
    [
        (("f", "Female", "W", "woman", "women", "girl", "Lady", "0", "0.0"), 0),
        (("m", "MALE", "man", "men", "boy", "gentleman", "1", "1.0"), 1),
        (("", "u", "?", "n/a", "-1"), -1),
    ],
)
def test_words_for_a_gender(words, gender):
    assert [parse_gender(word) for word in words] == [gender] * len(words)


@pytest.mark.parametrize(
    "pairs, says",
    [
        ([("1", "30"), ("2", "31"), ("2", "32")], "2 of 3 genders are not 0 or 1, such as 2 .genders coded 1, 2"),
        ([("-1", "30"), ("1", "31"), ("1", "3"), ("-1", "32")], "genders are -1 .2. and 1 .2., never 0"),
        (
            [("f", "0,31"), ("m", "0.44"), ("f", "0.29")],
            "all 3 ages lie within 0 to 1, such as 0.31 .ages as fractions",
        ),
        ([("f", "240"), ("m", "444"), ("f", "36")], "2 of 3 ages are outside 0 to 120, such as 240 .months"),
        ([("f", "1980"), ("m", "1977"), ("f", "2001")], "such as 1980 .years of birth"),
    ],
)
def test_columns_of_another_coding_are_refused(pairs, says):
    with pytest.raises(AgedgeError, match=f"t.csv: .*{says}"):
        check_columns("t.csv", pairs)


def test_columns_with_single_faults_infants_and_words_are_not():
    check_columns("t.csv", [("0", "30"), ("1", "31"), ("3", "1"), ("-1", "200"), ("", ""), ("x", "old")])
    check_columns("t.csv", [("f", "0.5"), ("m", "0.25"), ("f", "6 months"), ("f", "0,75")])
    check_columns("t.csv", [("woman", "20-29"), ("", "60+")])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252"])
def test_what_spreadsheets_write_is_read(tmp_path, encoding, caplog):
    path = write(tmp_path / "t.csv", "sep=;\r\nFile;Age\r\nZoë.jpg;2,75\r\n", encoding)
    assert cells_of(path, ("age",)) == [{"file": "Zoë.jpg", "age": "2,75"}]


@pytest.mark.parametrize(
    "texts",
    [("1", "2", "1", "5"), ("5", "2", "1", "9"), ("1", "", "3", "4"), ("1", "2", "nan", "4"), ("1", "2", "inf", "4")],
)
def test_what_is_no_box_is_refused(texts):
    assert read_box(("1", "2.5", "3", "4")) == (1, 2.5, 3, 4)
    with pytest.raises(ValueError):
        read_box(texts)

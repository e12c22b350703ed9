"""FairFace: 97,698 faces balanced over seven groups of race, with ages in groups of about ten years.

Kärkkäinen and Joo: "FairFace: Face attribute dataset for balanced race, gender, and age for bias measurement and
mitigation", WACV 2021. Age groups become intervals.
"""

import logging
from pathlib import Path
from typing import Dict, Union

from rec_tools.formats.age_groups import restore_group
from rec_tools.formats.table import FieldFaults, check_columns, find_tables, read_label, read_table, whole_rows
from rec_tools.rows import Dropped, Row, Rows

log = logging.getLogger(__name__)

SOURCE = "FairFace (Kärkkäinen and Joo, WACV 2021)"
TERMS = "FairFace: CC BY 4.0"

TABLES = {"train": "fairface_label_train.csv", "val": "fairface_label_val.csv"}
TABLE = "labels.csv"  # both splits in one table, as some copies of the data set have it
IMAGES = ("", "fairface-img-margin025-trainval", "fairface-img-margin125-trainval")  # as its archives are named
GROUPS = ((0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69))  # and "more than 70"


def read(root: Path) -> Rows:
    """Yield the rows of the official splits that are present, train first, or of one `labels.csv`; a row's id is
    "train/1.jpg".

    Ages that a spreadsheet turned into dates ("9-Mar" for "3-9") are restored, and their number is logged. Raises
    `AgedgeError` if `root` holds none of the tables.
    """
    root, restored = Path(root), 0
    tables = {"": root / TABLE}
    if not tables[""].is_file() or any((root / name).is_file() for name in TABLES.values()):
        tables = find_tables(root, TABLES, IMAGES)
    folder = next((root / place for place in IMAGES if any((root / place / split).is_dir() for split in TABLES)), root)
    faults = FieldFaults()
    for table in tables.values():
        check_columns(table, ((cells["gender"], cells["age"]) for cells in whole_rows(table, ("age", "gender"))))
        for _, cells in read_table(table, ("age", "gender"), ("file",)):
            if isinstance(cells, Dropped):
                yield cells
                continue
            if group := restore_group(cells["age"], GROUPS):
                cells["age"] = "{}-{}".format(*group)
                restored += 1
            yield read_row(cells, folder, faults)
    faults.log(root)
    if restored:
        log.info(
            "%s: %d ages that a spreadsheet had turned into dates, as 3-9 into 9-Mar, are restored", root, restored
        )


def read_row(cells: Dict[str, str], folder: Path, faults: FieldFaults) -> Union[Row, Dropped]:
    """Return the row of a line of the table, or why it is dropped."""
    name = cells["file"]
    label = read_label(name, cells["gender"], cells["age"], faults)
    if isinstance(label, Dropped):
        return label
    split = name.partition("/")[0]
    return Row(name, folder / name, label, fold=split if split in TABLES else None, race=cells.get("race") or None)

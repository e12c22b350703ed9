"""The section of a report that shows the faces with the largest errors."""

from pathlib import Path
from typing import Callable, Iterable, List, Optional

import numpy as np

from agedge.crop import Crop
from agedge.evaluation.groups import describe_label
from agedge.evaluation.metrics import age_errors, gender_hits
from agedge.evaluation.record_sources import read_faces
from agedge.evaluation.report.page import Block, Face, Faces, Heading, Missing, Note
from agedge.evaluation.report.sections import NO_AGE, NO_GENDER, ReportData
from agedge.labels import is_male
from agedge.records import encode

WORST_AGES, WORST_GENDERS = 24, 12
FACE, QUALITY = 112, 85  # pixels of a side; of the JPEGs: some 4 kB a face


def describe_worst_faces(data: ReportData, labels: str, crop: Optional[Crop]) -> List[Block]:
    """Show the faces with the largest age errors, and the wrong genders with the highest probability.

    `labels`, `crop`: as `predict_records` had them.
    """
    truth, ages, p_male = data.predictions.labels, data.predictions.ages, data.predictions.p_male
    errors = age_errors(truth, ages)
    by_age = [
        at for at in np.argsort(-np.nan_to_num(np.abs(errors)), kind="stable")[:WORST_AGES] if abs(errors[at]) > 0
    ]
    wrong = np.flatnonzero(gender_hits(truth, p_male) == 0)
    by_gender = wrong[np.argsort(-np.abs(p_male[wrong] - 0.5), kind="stable")[:WORST_GENDERS]]
    images = read_faces([data.sources[at] for at in (*by_age, *by_gender)], FACE, labels, crop)

    def make_sheet(positions: Iterable[int], make_face: Callable[[bytes, int], Face]) -> Faces:
        return Faces([make_face(encode(images[data.sources[at]], QUALITY), at) for at in positions])

    def make_age(jpeg: bytes, at: int) -> Face:
        text = f"true {describe_label(truth[at])}, predicted {ages[at]:.0f}"
        return Face(jpeg, f"{errors[at]:+.0f} years", (text, name_record(data, at)))

    def make_gender(jpeg: bytes, at: int) -> Face:
        male = is_male(p_male[at])
        probability = p_male[at] if male else 1 - p_male[at]
        error = f"predicted {'male' if male else 'female'}, {probability:.1%}"
        return Face(jpeg, error, (f"labelled {'female' if male else 'male'}", name_record(data, at)))

    no_age = NO_AGE if data.metrics["age_mae"] is None else "no age is wrong"
    no_gender = NO_GENDER if data.metrics["gender_acc"] is None else "no gender is wrong"
    return [
        Note("A wrong label looks like a wrong prediction: check the label first."),
        Heading("Largest age errors"),
        make_sheet(by_age, make_age) if len(by_age) else Missing(no_age),
        Heading("Wrong genders with the highest probability"),
        make_sheet(by_gender, make_gender) if len(by_gender) else Missing(no_gender),
    ]


def name_record(data: ReportData, at: int) -> str:
    """Return "record 17 train/3.jpg": the image's file where NAME.csv has it, before it the .rec of several."""
    file, number = data.sources[at]
    files = list(data.predictions.bad)
    names = {Path(each).name for each in files}
    before = "" if len(files) == 1 else f"{Path(file).name if len(names) == len(files) else file} "
    return f"{before}record {number} {data.rows[at].get('file') or ''}".strip()

"""The part of a report that shows faces: those that a model got most wrong."""

from pathlib import Path
from typing import List

import numpy as np

from agedge.evaluation.groups import say_label
from agedge.evaluation.metrics import age_errors, gender_hits
from agedge.evaluation.record_sources import read_faces
from agedge.evaluation.report import page
from agedge.evaluation.report.sections import NO_AGE, NO_GENDER, Said
from agedge.labels import is_male
from agedge.records import encode

WORST_AGES, WORST_GENDERS = 24, 12
FACE, QUALITY = 112, 85  # pixels of a side; of the JPEGs: some 4 kB a face


def tell_worst(said: Said, labels: str, crop) -> List[str]:
    """The faces with the largest errors of age, and the surest wrong genders. `labels`, `crop`: as `ask` had them."""
    truth, ages, p_male = said.answers.labels, said.answers.ages, said.answers.p_male
    errors = age_errors(truth, ages)
    by_age = [
        at for at in np.argsort(-np.nan_to_num(np.abs(errors)), kind="stable")[:WORST_AGES] if abs(errors[at]) > 0
    ]
    wrong = np.flatnonzero(gender_hits(truth, p_male) == 0)
    by_gender = wrong[np.argsort(-np.abs(p_male[wrong] - 0.5), kind="stable")[:WORST_GENDERS]]
    images = read_faces([said.origins[at] for at in (*by_age, *by_gender)], FACE, labels, crop)

    def sheet(positions, tell) -> str:
        return page.make_faces(
            (encode(images[said.origins[at]], QUALITY), *tell(at, name_record(said, at))) for at in positions
        )

    def tell_age(at: int, record: str) -> tuple:
        return f"{errors[at]:+.0f} years", (f"true {say_label(truth[at])}, said {ages[at]:.0f}", record)

    def tell_gender(at: int, record: str) -> tuple:
        male = is_male(p_male[at])
        sure = p_male[at] if male else 1 - p_male[at]
        said_so = f"said {'male' if male else 'female'}, {sure:.1%}"
        return said_so, (f"labelled {'female' if male else 'male'}", record)

    no_age = NO_AGE if said.measured["age_mae"] is None else "no age is wrong"
    no_gender = NO_GENDER if said.measured["gender_acc"] is None else "no gender is wrong"
    return [
        page.note("A wrong label looks like a wrong answer: look before you blame."),
        page.heading("Largest errors of age"),
        sheet(by_age, tell_age) if len(by_age) else page.absent(no_age),
        page.heading("Surest wrong genders"),
        sheet(by_gender, tell_gender) if len(by_gender) else page.absent(no_gender),
    ]


def name_record(said: Said, at: int) -> str:
    """ "record 17 train/3.jpg", the source if NAME.csv tells it; the .rec before it where there are several."""
    file, number = said.origins[at]
    files = list(said.answers.bad)
    names = {Path(each).name for each in files}
    before = "" if len(files) == 1 else f"{Path(file).name if len(names) == len(files) else file} "
    return f"{before}record {number} {said.rows[at].get('file') or ''}".strip()

"""Tables that benchmarks write into a page of docs/, between two marks that stand there."""

from pathlib import Path

from agedge.errors import AgedgeError
from agedge.safe_write import write_text

END = "<!-- end of the table -->"


def replace_table(page: Path, table: str, program: str) -> None:
    """Put a table in the place of the one that `python -m PROGRAM --write` wrote.

    Raises `AgedgeError` where the page has no such place.
    """
    mark = f"<!-- table: python -m {program} --write -->"
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AgedgeError(f"{page}: no place for the table, between '{mark}' and '{END}'")
    write_text(page, f"{before}{mark}\n{table}\n{END}{after}")

"""The blocks of a report page, and their rendering: report.html.j2, by Jinja2 with autoescape."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Iterable, NamedTuple, Sequence, Tuple, Union

from agedge.errors import AgedgeError
from agedge.results.kinds import GENERATOR

TEMPLATE = Path(__file__).with_name("report.html.j2")
Pairs = Sequence[Tuple[object, object]]


@dataclass(frozen=True)
class Missing:
    """A line in place of a block that cannot be shown, with the reason."""

    reason: str
    kind: ClassVar[str] = "missing"


@dataclass(frozen=True)
class Note:
    """A paragraph of small print."""

    text: str
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Facts:
    """A list of (name, value)."""

    rows: Pairs
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Headline:
    """The most important metrics, (name, value) in large digits."""

    rows: Pairs
    kind: ClassVar[str] = "headline"


@dataclass(frozen=True)
class Table:
    """A table of one body or several, each a list of rows; the first `texts` columns name the row."""

    heads: Sequence[str]
    bodies: Sequence[Sequence[Sequence[object]]]
    caption: str = ""
    texts: int = 1
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Plots:
    """Images side by side where there is room: (PNG, what it shows) each; a `large` one stands alone."""

    images: Sequence[Tuple[bytes, str]]
    large: bool = False
    kind: ClassVar[str] = "plots"


class Face(NamedTuple):
    """A face of a sheet: the JPEG, the error, and further lines below it."""

    jpeg: bytes
    error: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Faces:
    """A sheet of faces."""

    faces: Sequence[Face]
    kind: ClassVar[str] = "faces"


@dataclass(frozen=True)
class Text:
    """Text whose line breaks are kept."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Fold:
    """A block that is hidden until the reader opens it."""

    title: str
    block: Union[Table, Text]
    kind: ClassVar[str] = "fold"


Block = Union[Missing, Note, Heading, Facts, Headline, Table, Plots, Faces, Text, Fold]


class Section(NamedTuple):
    """A section of the page: the key of its link, its title and its blocks."""

    key: str
    title: str
    blocks: Sequence[Block]


def group_rows(groups: Iterable[Tuple[str, Sequence[Sequence[object]]]]) -> list:
    """Return the bodies of a `Table` from groups (name, rows): the group's name stands beside its first row."""
    return [[("" if nth else name, *row) for nth, row in enumerate(rows)] for name, rows in groups]


def render_page(name: str, head: Sequence[Block], sections: Sequence[Section], footer: str) -> str:
    """Return the HTML of a report. `name`: of the run or model; every text is plain and gets escaped.

    Raises `AgedgeError` if Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise AgedgeError("report.html: the package jinja2 is not installed: `pip install jinja2`") from None

    # `finalize` runs before the escaping.
    environment = Environment(autoescape=True, finalize=_to_printable, trim_blocks=False, keep_trailing_newline=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        generator=GENERATOR, title=f"{name}: report", name=name, head=head, sections=sections, footer=footer
    )


def _to_printable(value: object) -> object:
    """Return a value as text that can be written as UTF-8, which the odd name of a file cannot; HTML stays as it is."""
    if hasattr(value, "__html__"):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")

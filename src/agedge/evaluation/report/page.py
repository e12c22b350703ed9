"""The HTML of a report: one file without scripts, its pictures within it, for a screen, a phone or paper."""

import base64
import html
from typing import Iterable, List, Sequence

from agedge.results.kinds import GENERATOR

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c636b; --line: #d9dde2; --paper: #ffffff;
  --shade: #f4f6f8; --link: #0b5cad; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --soft: #a0a7b0; --line: #3a4048; --paper: #16181b;
  --shade: #202429; --link: #7db7ff; --wrong: #ff8a80; }
  img.plot { filter: invert(0.9) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.4rem 0 0.8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
a { color: var(--link); }
p { margin: 0.5rem 0; max-width: 48rem; }
p.note, p.absent, figcaption, footer { color: var(--soft); font-size: 0.875rem; }
p.absent { border-left: 3px solid var(--line); padding-left: 0.6rem; }
nav { font-size: 0.9rem; line-height: 1.9; margin: 1rem 0; }
nav a { margin-right: 0.9rem; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; margin: 0.5rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 0.6rem; margin: 1rem 0; }
.figures div { background: var(--shade); border-radius: 6px; padding: 0.5rem 0.8rem; }
.figures b { display: block; font-size: 1.4rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: 0.8rem; }
.wide { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 0.875rem; padding-bottom: 0.3rem; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
tbody th, th.text { text-align: left; }
tbody th { font-weight: 400; }
tbody.group tr:not(:last-child) > * { border-bottom-color: transparent; }
tbody.group tr:not(:first-child) { color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem;
  margin: 0.8rem 0; }
figure { margin: 0; min-width: 0; }
img.plot { display: block; width: 100%; max-width: 33rem; height: auto; border-radius: 4px; }
img.large { max-width: 46rem; }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 0.9rem 0.7rem;
  margin: 0.8rem 0; }
.faces img { display: block; width: 112px; max-width: 100%; height: auto; border-radius: 4px; }
.faces figcaption { font-size: 0.75rem; line-height: 1.35; overflow-wrap: anywhere; margin-top: 0.25rem; }
.faces b { color: var(--wrong); }
pre { background: var(--shade); padding: 0.8rem; border-radius: 6px; overflow-x: auto; font-size: 0.8rem; }
summary { cursor: pointer; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 0.6rem; }
@media (max-width: 36rem) { body { padding: 0.7rem; } th, td { padding: 0.2rem 0.25rem; } table { font-size: 0.78rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.4rem; } }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --shade: #f4f4f4; --link: #000;
  --wrong: #a00; } body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  img.plot { filter: none; } figure, tbody, .figures { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .plots { grid-template-columns: 1fr 1fr; } }
"""


def escape(value) -> str:
    """Any value as text of a page, quotes too. What cannot be written as UTF-8, as in a file's odd name, is shown."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"))


def make_page(title: str, body: Iterable[str], footer: str) -> str:
    """A whole page. `body`: its parts, HTML; `title` and `footer`: plain text."""
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"{GENERATOR}\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            *body,
            f"<footer>{escape(footer)}</footer>\n</body>\n</html>\n",
        ]
    )


def make_section(key: str, title: str, parts: Iterable[str]) -> str:
    return "\n".join([f'<section id="{key}">', f"<h2>{escape(title)}</h2>", *parts, "</section>"])


def make_contents(sections: Sequence[tuple]) -> str:
    """Links to the sections, (key, title) each."""
    return "<nav>" + "\n".join(f'<a href="#{key}">{escape(title)}</a>' for key, title in sections) + "</nav>"


def absent(reason: str) -> str:
    """The line that stands where a part would."""
    return f'<p class="absent">Left out: {escape(reason)}.</p>'


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def make_facts(facts: Sequence[tuple]) -> str:
    """A list of (name, value)."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts) + "</dl>"


def make_figures(figures: Sequence[tuple]) -> str:
    """The headline: (name, value) in large digits."""
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>\n" for name, value in figures)
    return f'<div class="figures">{cells}</div>'


def make_table(heads: Sequence[str], rows: Iterable[Sequence], caption: str = "", texts: int = 1) -> str:
    """A table of texts; the first `texts` columns name the row."""
    return _wrap_table(heads, "<tbody>" + "\n".join(_row(row, texts) for row in rows) + "</tbody>", caption, texts)


def make_grouped_table(heads: Sequence[str], groups: Iterable[tuple], caption: str = "") -> str:
    """A table of groups (name, rows), the group's name beside the first of its rows."""
    bodies: List[str] = []
    for name, rows in groups:
        lines = [_row(("" if nth else name, *row), 2) for nth, row in enumerate(rows)]
        bodies.append('<tbody class="group">' + "\n".join(lines) + "</tbody>")
    return _wrap_table(heads, "\n".join(bodies), caption, 2)


def _row(cells: Sequence, texts: int) -> str:
    names = "".join(f"<th scope='row'>{escape(cell)}</th>" for cell in cells[:texts])
    return f"<tr>{names}{''.join(f'<td>{escape(cell)}</td>' for cell in cells[texts:])}</tr>"


def _wrap_table(heads: Sequence[str], bodies: str, caption: str, texts: int) -> str:
    cells = "".join(
        f"<th scope='col'{' class=text' if nth < texts else ''}>{escape(head)}</th>" for nth, head in enumerate(heads)
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{title}<thead><tr>{cells}</tr></thead>\n{bodies}</table></div>'


def make_plots(plots: Iterable[tuple], kind: str = "plot") -> str:
    """Pictures side by side where there is room: (PNG, what it shows) each; of the kind "plot large" one alone."""
    figures = "\n".join(
        f'<figure><img class="{kind}" alt="{escape(text)}" src="{_embed(png, "png")}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
        for png, text in plots
    )
    return f'<div class="plots">{figures}</div>'


def make_faces(faces: Iterable[tuple]) -> str:
    """A sheet of faces: (JPEG, what is wrong, other lines) each."""
    figures = "\n".join(
        f'<figure><img alt="{escape(", ".join((wrong, *lines)))}" src="{_embed(jpeg, "jpeg")}"><figcaption>'
        f"<b>{escape(wrong)}</b><br>{'<br>'.join(escape(line) for line in lines)}</figcaption></figure>"
        for jpeg, wrong, lines in faces
    )
    return f'<div class="faces">{figures}</div>'


def make_text(text: str) -> str:
    """Text whose lines stay as they are."""
    return f"<pre>{escape(text)}</pre>"


def fold(title: str, piece: str) -> str:
    """A piece of HTML that is shown when it is asked for."""
    return f"<details><summary>{escape(title)}</summary>{piece}</details>"


def _embed(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"

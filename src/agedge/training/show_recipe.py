"""Print all recipe keys, or values of one recipe: python -m agedge.training.show_recipe [--recipe FILE] [--get KEY ...]

`--write docs/training.md` regenerates the table of keys in that page.
"""

import json
from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import run_command, say
from agedge.errors import AgedgeError, UsageError
from agedge.safe_write import write_text
from agedge.shipped import find_shipped
from agedge.training.recipe import DEFAULTS, as_plain, collect_keys, find_value, load_recipe

END = "<!-- end of the table -->"


def main(
    overrides: Optional[List[str]] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Such as optimizer.lr=0.001"),
    recipe: Optional[Path] = typer.Option(None, help="A YAML file of recipes/."),
    get: Optional[List[str]] = typer.Option(None, help="Print the value of this key; may be repeated."),
    default: Optional[str] = typer.Option(
        None, help="What --get prints for a network.* key that the recipe does not set."
    ),
    write: Optional[Path] = typer.Option(None, help="Replace the table of keys in this documentation page."),
) -> None:
    """Print the recipe keys with their defaults, or with --get the values of a recipe, one per line."""
    if write:
        write_table(write)
    elif not get:
        say(*format_table().split("\n"))
    else:
        values = as_plain(load_recipe(find_shipped(recipe) if recipe else None, overrides or ()))
        say(*(format_value(values, name, default) for name in get))


def format_value(values: dict, name: str, default: Optional[str]) -> str:
    """Return the value of a key: a string unchanged, other types as JSON. Raises `UsageError` on an unknown key."""
    try:
        value = find_value(values, name)
    except KeyError:
        if default is None or not name.startswith("network."):
            raise UsageError(f"--get {name}: the recipe does not have this key") from None
        return default
    return value if isinstance(value, str) else json.dumps(value)


def format_table() -> str:
    """Return the recipe keys as a Markdown table."""
    rows = ["| key | default | value | meaning |", "|---|---|---|---|"]
    for name, key in collect_keys().items():
        kind = key.describe() if key.choices else f"{key.kind} {key.describe()}".strip()
        rows.append(f"| `{name}` | `{json.dumps(find_value(DEFAULTS, name))}` | {kind} | {key.help} |")
    return "\n".join(rows)


def write_table(page: Path) -> None:
    """Replace the table of keys in a page. Raises `AgedgeError` if the page does not have the table's markers."""
    mark = "<!-- table: python -m agedge.training.show_recipe --write docs/training.md -->"
    before, begin, rest = page.read_text(encoding="utf-8").partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AgedgeError(f"{page}: there must be a table between the lines '{mark}' and '{END}'")
    write_text(page, f"{before}{mark}\n{format_table()}\n{END}{after}")


if __name__ == "__main__":
    run_command(main)

"""The definition of a recipe key: its default, its valid values and its help text."""

import dataclasses
from typing import Any, Callable, Dict, Optional, Tuple

from agedge.errors import UsageError, choices

LARGEST_NUMBER = 2**53  # float64 cannot represent all integers above it


def _is_number(value: Any, kinds: tuple = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def _is_list_of(kinds: tuple) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(isinstance(one, kinds) for one in value)


# Kind of value: (check, description in errors).
KINDS: Dict[str, Tuple[Callable[[Any], bool], str]] = {
    "flag": (lambda value: isinstance(value, bool), "true or false"),
    "integer": (lambda value: _is_number(value, (int,)), "a whole number"),
    "number": (_is_number, "a number"),
    "text": (lambda value: isinstance(value, str), "a text"),
    "files": (lambda value: isinstance(value, str) or _is_list_of((str,))(value), "a text, or a list of texts"),
    "numbers": (_is_list_of((int, float)), "a list of numbers, such as [40000, 70000]"),
    "patterns": (_is_list_of((str,)), "a list of patterns of parameter names, such as ['body.*']"),
    "models": (_is_list_of((str,)), "a list of runs or model folders, such as [runs/large]"),
    "rates": (lambda value: isinstance(value, dict), "a mapping of patterns to numbers"),
}
KIND_OF_TYPE = {bool: "flag", int: "integer", float: "number", str: "text"}


@dataclasses.dataclass(frozen=True)
class Key:
    """The checks and the help of a key. `kind` is a name of `KINDS`; limits that are None do not apply."""

    kind: str
    help: str
    at_least: Optional[float] = None
    at_most: Optional[float] = None
    above: Optional[float] = None
    choices: tuple = ()

    def check(self, name: str, value: Any) -> None:
        """Raise `UsageError` if a value is not of the key's kind or not within its limits."""
        fits, expected = KINDS[self.kind]
        if not fits(value):
            raise UsageError(f"{name}={value}: must be {expected}")
        if self.kind == "rates":
            for pattern, rate in value.items():
                Key("number", "", self.at_least).check(f"{name}.{pattern}", rate)
        elif self.choices and value not in self.choices:
            if isinstance(value, str):
                raise choices(name, value, self.choices)
            raise UsageError(f"{name}={value}: must be {self.describe()}")
        elif not self._is_within(value):
            raise UsageError(f"{name}={value}: must be a number {self.describe()}")

    def _is_within(self, value: Any) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
        )

    def describe(self) -> str:
        """Return the limits or the choices as text; "" if there are none."""
        if self.choices:
            return " or ".join(map(str, self.choices))
        if self.above is not None:
            return f"above {self.above:g}"
        if self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}"
        return "" if self.at_least is None else f"of at least {self.at_least:g}"


def key(default: Any, help: str, kind: str = "", **limits: Any) -> Any:
    """Declare a field of a section: its default, its help, and the limits that `Key` has.

    Without `kind`, values must have the type of the default.
    """
    metadata = {"key": Key(kind or KIND_OF_TYPE[type(default)], help, **limits)}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def list_keys(section: Any) -> Dict[str, Key]:
    """Return {name: key} of a section, or of the keys outside the sections."""
    return {field.name: field.metadata["key"] for field in dataclasses.fields(section) if "key" in field.metadata}

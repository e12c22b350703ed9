"""Equality by value for records that hold arrays. The == of a dataclass or NamedTuple raises ValueError on arrays."""

from dataclasses import fields, is_dataclass
from typing import Any, Type, TypeVar, cast

import numpy as np

Record = TypeVar("Record")


def compare_by_value(record: Type[Record]) -> Type[Record]:
    """Decorate a dataclass or NamedTuple so that == and != compare its fields by value.

    Arrays are equal if they have the same shape and equal elements; NaN equals NaN. Such a record cannot be hashed,
    because arrays cannot.
    """
    names = [field.name for field in fields(record)] if is_dataclass(record) else cast(Any, record)._fields

    def is_equal(self: Any, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(same_values(getattr(self, name), getattr(other, name)) for name in names)

    def is_unequal(self: Any, other: object) -> Any:  # needed because tuple defines its own __ne__
        equal = is_equal(self, other)
        return equal if equal is NotImplemented else not equal

    for name, method in (("__eq__", is_equal), ("__ne__", is_unequal), ("__hash__", None)):
        setattr(record, name, method)
    return record


def same_values(one: object, other: object) -> bool:
    """Return whether two values are equal; arrays, and lists, tuples and dicts of them, element by element."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
            return False
        has_nan = one.dtype.kind in "fc" and other.dtype.kind in "fc"
        return np.array_equal(one, other, equal_nan=has_nan)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(same_values, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_values(value, other[key]) for key, value in one.items())
    return bool(one == other or (one != one and other != other))

"""Comparison by value for records that hold arrays: what a dataclass or NamedTuple does by itself raises ValueError."""

from dataclasses import fields, is_dataclass

import numpy as np


def compare_by_value(record: type) -> type:
    """Decorate a dataclass or NamedTuple so that == and != compare its fields by value.

    Arrays are equal that have one shape and equal elements; NaN equals NaN. Such a record cannot be hashed, as the
    arrays in it cannot.
    """
    names = [field.name for field in fields(record)] if is_dataclass(record) else record._fields

    def is_equal(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(same_values(getattr(self, name), getattr(other, name)) for name in names)

    def is_unequal(self, other):  # a tuple has its own, which would be asked otherwise
        equal = is_equal(self, other)
        return equal if equal is NotImplemented else not equal

    record.__eq__, record.__ne__, record.__hash__ = is_equal, is_unequal, None
    return record


def same_values(one, other) -> bool:
    """Return whether two values are equal: arrays, and lists, tuples and dicts of them, element by element."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
            return False
        has_nan = one.dtype.kind in "fc" and other.dtype.kind in "fc"
        return np.array_equal(one, other, equal_nan=has_nan)
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(same_values, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_values(value, other[key]) for key, value in one.items())
    return bool(one == other or (one != one and other != other))

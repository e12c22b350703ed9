"""Checks of the options of networks and heads. Each raises `ValueError` that names the option."""

import math
from typing import Any


def require_bool(**options: Any) -> None:
    """Require true or false."""
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value}: must be true or false")


def require_count(**options: Any) -> None:
    """Require whole numbers of at least 1."""
    for name, value in options.items():
        if not (is_whole(value) and value > 0):
            raise ValueError(f"{name}={value}: must be a whole number of at least 1")


def require_share(**options: Any) -> None:
    """Require numbers from 0 to below 1, such as the rate of a dropout."""
    for name, value in options.items():
        if not (is_number(value) and 0 <= value < 1):
            raise ValueError(f"{name}={value}: must be from 0 to below 1")


def require_not_negative(**options: Any) -> None:
    """Require numbers of at least 0, such as the weight of a loss."""
    for name, value in options.items():
        if not (is_number(value) and value >= 0):
            raise ValueError(f"{name}={value}: must be a number of at least 0")


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number: 3, but not 3.0, nor True, which Python counts as 1."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; true and false are not."""
    return is_whole(value) or isinstance(value, float) and math.isfinite(value)

"""Checks of the options of networks and heads. Each raises `ValueError` that names the option."""

import math


def require_bool(**options):
    """True or false."""
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value}: true or false is wanted")


def require_count(**options):
    """Whole numbers of at least 1."""
    for name, value in options.items():
        if not (is_whole(value) and value > 0):
            raise ValueError(f"{name}={value}: a whole number of at least 1 is wanted")


def require_share(**options):
    """Numbers from 0 to below 1, such as the chance of a dropout."""
    for name, value in options.items():
        if not (is_number(value) and 0 <= value < 1):
            raise ValueError(f"{name}={value}: a share below 1 is wanted")


def require_not_negative(**options):
    """Numbers of at least 0, such as the weight of a loss."""
    for name, value in options.items():
        if not (is_number(value) and value >= 0):
            raise ValueError(f"{name}={value}: a number of at least 0 is wanted")


def is_whole(value):
    """True for 3, not for 3.0, and not for True, which Python counts as 1."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value):
    """True for numbers, but for infinity, NaN and truth values."""
    return is_whole(value) or isinstance(value, float) and math.isfinite(value)

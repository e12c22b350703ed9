"""The registry of networks: each is registered under the name of the function that builds it."""

import difflib
import inspect
from typing import Any, Callable, Dict, List

Build = Callable[..., Any]  # returns a network

_BUILDERS: Dict[str, Build] = {}
_DETECTORS: Dict[str, Build] = {}
_FAMILIES: Dict[str, Build] = {}


def register(build: Build) -> Build:
    """Register a function `build(**arguments)` that returns an age and gender network. Used as a decorator."""
    return _add(_BUILDERS, build.__name__, build)


def register_detector(build: Build) -> Build:
    """Register a function `build(**arguments)` that returns a face detector. Used as a decorator."""
    return _add(_DETECTORS, build.__name__, build)


def register_family(family: str) -> Callable[[Build], Build]:
    """Return a decorator that registers `build(member, **arguments)` for all names "family:member"."""
    return lambda build: _add(_FAMILIES, family, build)


def _add(registry: Dict[str, Build], name: str, build: Build) -> Build:
    """Add a function to a registry. Raises `ValueError` if the name exists already."""
    if name in _BUILDERS or name in _DETECTORS or name in _FAMILIES:
        raise ValueError(f"network {name}: is already registered")
    registry[name] = build
    return build


def names() -> List[str]:
    """Return the sorted names of the age and gender networks, without families."""
    return sorted(_BUILDERS)


def detectors() -> List[str]:
    """Return the names of the face detectors, sorted."""
    return sorted(_DETECTORS)


def create(name: str, **arguments: Any) -> Any:
    """Return a new, uninitialized network.

    Raises `ValueError` for an unknown name and an unknown or missing argument (with the choices), and for an invalid
    value (with the name of the argument).
    """
    name = str(name)
    family, colon, member = name.partition(":")
    build, positional = (_FAMILIES.get(family), (member,)) if colon else (None, ())
    build = build or _BUILDERS.get(name) or _DETECTORS.get(name)
    if build is None:
        choices = [*names(), *(f"{family}:NAME" for family in sorted(_FAMILIES)), *detectors()]
        raise ValueError(f"network: unknown '{name}'; choose one of {', '.join(choices)}")
    try:
        return build(*positional, **arguments)
    except TypeError:
        check_arguments(name, build, positional, arguments)
        raise


def check_arguments(name: str, build: Build, positional: tuple, arguments: Dict[str, Any]) -> None:
    """Raise `ValueError` if `arguments` of a function that builds a network are unknown, or one is missing."""
    parameters = list(inspect.signature(build).parameters.values())[len(positional) :]
    named = {one.name: one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD}
    for key, parameter in named.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            raise ValueError(f"{name}: missing argument '{key}'")
    known = set(named)
    if len(named) < len(parameters):  # **arguments are passed on; `network.arguments` has all names
        own = {key: value for key, value in arguments.items() if key in named}
        known.update(set(build(*positional, **own).arguments) - {"name"})
    for key in sorted(set(arguments) - known):
        nearest = difflib.get_close_matches(key, known, 1, cutoff=0.5)
        hint = f"did you mean '{nearest[0]}'? " if nearest else ""
        raise ValueError(f"{name}: unknown argument '{key}'; {hint}arguments: {', '.join(sorted(known))}")

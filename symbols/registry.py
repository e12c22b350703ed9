"""Networks by name: each is registered under the name of the function that builds it."""

_BUILDERS = {}


def register(build):
    """Decorator: make `build(**arguments)` known under its own name."""
    _BUILDERS[build.__name__] = build
    return build


def names():
    """The registered networks, in alphabetical order."""
    return sorted(_BUILDERS)


def create(name, **arguments):
    """A fresh, uninitialised network. Raises `ValueError` that lists the choices for a name that is not registered,
    and `TypeError` for an argument that this network does not take."""
    if name not in _BUILDERS:
        raise ValueError(f"network: unknown '{name}'; choose one of {', '.join(names())}")
    return _BUILDERS[name](**arguments)

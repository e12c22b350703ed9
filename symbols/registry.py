"""Networks by name: each is registered under the name of the function that builds it."""

_BUILDERS = {}
_DETECTORS = {}
_FAMILIES = {}


def register(build):
    """Decorator: make `build(**arguments)` known under its own name."""
    _BUILDERS[build.__name__] = build
    return build


def register_detector(build):
    """As `register`, for a network that finds faces: it has other outputs, losses and data."""
    _DETECTORS[build.__name__] = build
    return build


def register_family(family):
    """Decorator: `build(member, **arguments)` answers for every name "family:member"."""

    def remember(build):
        _FAMILIES[family] = build
        return build

    return remember


def names():
    """The registered networks of ages and genders, in alphabetical order; those of families are not among them."""
    return sorted(_BUILDERS)


def detectors():
    """The registered networks that find faces, in alphabetical order."""
    return sorted(_DETECTORS)


def create(name, **arguments):
    """A fresh, uninitialised network. Raises `ValueError` that lists the choices for a name that is not registered,
    and `TypeError` for an argument that this network does not take."""
    name = str(name)
    family, colon, member = name.partition(":")
    if colon and family in _FAMILIES:
        return _FAMILIES[family](member, **arguments)
    build = _BUILDERS.get(name) or _DETECTORS.get(name)
    if build is None:
        choices = [*names(), *(f"{family}:NAME" for family in sorted(_FAMILIES)), *detectors()]
        raise ValueError(f"network: unknown '{name}'; choose one of {', '.join(choices)}")
    return build(**arguments)

"""Networks by name: each is registered under the name of the function that builds it."""

_BUILDERS = {}
_FAMILIES = {}


def register(build):
    """Decorator: make `build(**arguments)` known under its own name."""
    _BUILDERS[build.__name__] = build
    return build


def register_family(family):
    """Decorator: `build(member, **arguments)` answers for every name "family:member"."""

    def remember(build):
        _FAMILIES[family] = build
        return build

    return remember


def names():
    """The registered networks, in alphabetical order; those of families are not among them."""
    return sorted(_BUILDERS)


def create(name, **arguments):
    """A fresh, uninitialised network. Raises `ValueError` that lists the choices for a name that is not registered,
    and `TypeError` for an argument that this network does not take."""
    name = str(name)
    family, colon, member = name.partition(":")
    if colon and family in _FAMILIES:
        return _FAMILIES[family](member, **arguments)
    if name not in _BUILDERS:
        choices = [*names(), *(f"{family}:NAME" for family in sorted(_FAMILIES))]
        raise ValueError(f"network: unknown '{name}'; choose one of {', '.join(choices)}")
    return _BUILDERS[name](**arguments)

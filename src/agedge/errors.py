"""The errors that a user can mend: one line that names the file (or the option) and the reason."""


class AgedgeError(Exception):
    """The job could not be done; doors print the message and exit with 1."""

    status = 1


class UsageError(AgedgeError):
    """The command was wrong: an unknown name, key or value; doors print the message and exit with 2."""

    status = 2


class StoppedError(AgedgeError):
    """The job was asked to end by a signal, and has saved where it stands; doors exit with 128 + its number, as shells
    have it."""

    def __init__(self, text: str, number: int):
        super().__init__(text)
        self.status = 128 + number


def choices(what: str, given: object, known) -> UsageError:
    """The answer to an unknown name: the wrong thing, and what could have stood there."""
    return UsageError(f"{what}: unknown '{given}'; choose one of {', '.join(map(str, known))}")

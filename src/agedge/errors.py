"""The errors that a user can fix. Their message is one line that names the file (or the option) and the reason."""

from typing import Iterable


class AgedgeError(Exception):
    """The job could not be done. Commands print the message and exit with status 1."""

    status = 1


class UsageError(AgedgeError):
    """The command line was wrong: an unknown name, key or value. Commands print the message and exit with status 2."""

    status = 2


class StoppedError(AgedgeError):
    """A signal ended the job, which has saved its state. Commands exit with 128 + the signal's number, as shells do."""

    def __init__(self, text: str, number: int):
        super().__init__(text)
        self.status = 128 + number


def choices(what: str, given: object, known: Iterable[object]) -> UsageError:
    """Return the error for an unknown name: it names the wrong value and lists the allowed ones."""
    return UsageError(f"{what}: unknown '{given}'; choose one of {', '.join(map(str, known))}")

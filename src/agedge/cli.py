"""What all doors share: `--debug`, the log on stderr, exit statuses.

0: done; 1: could not be done; 2: wrong usage; from 128 on: ended by a signal.
"""

import logging
import sys

import typer

from agedge.errors import AgedgeError, StoppedError


def run_door(door, argv=None) -> None:
    """Run a typer app or function as the program, and exit with its status.

    An `AgedgeError` (and what the operating system says of a file) is one line on stderr; `--debug`, anywhere on the
    command line, lets the traceback through.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):  # the name of a file need not be a text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("matplotlib", "PIL", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not isinstance(door, typer.Typer):
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(door)
        door = app
    try:
        door(argv, standalone_mode=True)
    except (AgedgeError, OSError) as error:
        if debug:
            raise
        text = describe(error)
        print(text if isinstance(error, StoppedError) else f"error: {text}", file=sys.stderr)
        sys.exit(getattr(error, "status", 1))


def describe(error: BaseException) -> str:
    """The error as one line: file first, then the reason."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())

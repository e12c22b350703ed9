"""What all commands share: `--debug`, printed lines, the log on stderr, exit statuses.

0: done; 1: could not be done; 2: wrong usage; from 128 on: ended by a signal.
"""

import logging
import re
import sys

import typer

from agedge.errors import AgedgeError, StoppedError

# What a terminal obeys or does not show as it is written: C0, DEL and C1 controls, line separators, marks that change
# the direction of text (Unicode TR 36, 2.10), and surrogates, which stand for bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
TRUST = typer.Option(False, "--trust", help="Run ONNX and ncnn files of which the card has no checksum.")
_output = {"to_stderr": False}  # True: stdout holds results only


def run_command(door, argv=None) -> None:
    """Run a typer app or function as the program, and exit with its status.

    An `AgedgeError` (and what the operating system says of a file) is one line on stderr; `--debug`, anywhere on the
    command line, lets the traceback through.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    keep_stdout_for_results(False)
    for stream in (sys.stdout, sys.stderr):  # the name of a file need not be a text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])
    for noisy in ("matplotlib", "PIL", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not isinstance(door, typer.Typer):
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(door)
        door = app
    try:
        status = door(argv, standalone_mode=False)
    except (AgedgeError, OSError) as error:
        if debug:
            raise
        text = describe(error)
        say(text if isinstance(error, StoppedError) else f"error: {text}", err=True)
        sys.exit(getattr(error, "status", 1))
    except typer.Abort:
        say("Aborted!", err=True)
        sys.exit(1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # the errors of the command line itself, whichever click typer brings
            raise
        if type(error).__name__ != "NoArgsIsHelpError":
            error.message = printable(error.message)
        error.show()
        sys.exit(error.exit_code)
    sys.exit(status if type(status) is int else 0)


def say(*lines: object, err: bool = False) -> None:
    """Print lines, each with its control characters escaped, to stdout, or to stderr.

    They go to stderr too while stdout holds results (`keep_stdout_for_results`).
    """
    stream = sys.stderr if err or _output["to_stderr"] else sys.stdout
    for line in lines:
        print(printable(line), file=stream, flush=True)


def keep_stdout_for_results(keep: bool = True) -> None:
    """Make `say` print to stderr, so that stdout holds what `--json -` writes and nothing else."""
    _output["to_stderr"] = keep


def printable(text: object) -> str:
    r"""Return a text as one line that is safe on a terminal: control characters become escapes such as `\x1b`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


class PrintableFormatter(logging.Formatter):
    """Format a log record as one printable line; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, logging's own name
        return printable(super().formatMessage(record))


def describe(error: BaseException) -> str:
    """Return the error as one printable line: file first, then the reason."""
    if isinstance(error, OSError) and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(re.sub(r"[ \t\r\n]+", " ", str(error)).strip())

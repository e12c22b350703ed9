"""Run a command: `--debug`, printed lines, the log on stderr, exit statuses.

Exit statuses: 0 done; 1 could not be done; 2 wrong usage; 128 and above, ended by a signal.
"""

import io
import logging
import re
import sys
from typing import Any, Callable, NoReturn, Optional, Sequence, Union

import typer

from agedge.errors import AgedgeError, StoppedError

# Characters that control a terminal or are not shown as written: C0, DEL and C1 controls, line separators, marks that
# change the direction of text (Unicode TR 36, 2.10), and surrogates, which stand for bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
TRUST = typer.Option(False, "--trust", help="Load ONNX and ncnn files without a checksum in the card.")
_output = {"to_stderr": False}  # True: stdout is reserved for results


def run_command(command: Union[typer.Typer, Callable], argv: Optional[Sequence[str]] = None) -> NoReturn:
    """Run a typer app or function as the program, and exit with its status.

    `argv`: the arguments, by default those of this process. An `AgedgeError` or `OSError` is printed as one line on
    stderr; with `--debug`, anywhere on the command line, the traceback is shown.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [argument for argument in argv if argument != "--debug"]
    keep_stdout_for_results(False)
    for stream in (sys.stdout, sys.stderr):  # the name of a file may not be valid text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])
    for noisy in ("matplotlib", "PIL", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if isinstance(command, typer.Typer):
        app = command
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(command)
    try:
        status = app(argv, standalone_mode=False)
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
        if not hasattr(error, "format_message"):
            raise
        usage_error: Any = error  # a ClickException, of click itself or of the copy of click inside typer
        if type(error).__name__ != "NoArgsIsHelpError":
            usage_error.message = printable(usage_error.message)
        usage_error.show()
        sys.exit(usage_error.exit_code)
    sys.exit(status if type(status) is int else 0)


def say(*lines: object, err: bool = False) -> None:
    """Print lines to stdout, or to stderr if `err`, with control characters escaped.

    All lines go to stderr while stdout is reserved for results (`keep_stdout_for_results`).
    """
    stream = sys.stderr if err or _output["to_stderr"] else sys.stdout
    for line in lines:
        print(printable(line), file=stream, flush=True)


def keep_stdout_for_results(keep: bool = True) -> None:
    """Make `say` print to stderr, so that stdout contains only what `--json -` writes."""
    _output["to_stderr"] = keep


def printable(text: object) -> str:
    r"""Return a text as one line that is safe on a terminal: control characters become escapes such as `\x1b`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


class PrintableFormatter(logging.Formatter):
    """Format a log record as one printable line; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name that logging uses
        return printable(super().formatMessage(record))


def describe(error: BaseException) -> str:
    """Return an error as one printable line: the file, then the reason."""
    if isinstance(error, OSError) and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(re.sub(r"[ \t\r\n]+", " ", str(error)).strip())

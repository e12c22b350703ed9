"""Printed lines, log lines and error texts contain no control characters; exit statuses of commands."""

import logging
import subprocess
import sys

import pytest

from agedge.cli import PrintableFormatter, describe, keep_stdout_for_results, printable, say

ODD = "a\x1b]0;x\x07\n\r\tb\x9b31m\x7f\u202ec\u2066d\u2028\udcff.jpg"
ESCAPED = r"a\x1b]0;x\x07\n\r\tb\x9b31m\x7f\u202ec\u2066d\u2028\udcff.jpg"


def test_control_characters_are_escaped_and_other_text_stays():
    assert printable(ODD) == ESCAPED
    assert printable(printable(ODD)) == ESCAPED
    assert printable("Zoë 写真 🙂 C:\\x") == "Zoë 写真 🙂 C:\\x"


@pytest.mark.parametrize("to_stderr", [False, True])
def test_every_printed_line_is_one_line(capsys, to_stderr):
    keep_stdout_for_results(to_stderr)
    try:
        say(ODD, "second")
    finally:
        keep_stdout_for_results(False)
    printed = capsys.readouterr()
    assert (printed.err if to_stderr else printed.out) == f"{ESCAPED}\nsecond\n"
    assert (printed.out if to_stderr else printed.err) == ""


def test_the_log_and_errors_are_printable():
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s: odd", (ODD,), None)
    assert PrintableFormatter("%(message)s").format(record) == f"{ESCAPED}: odd"
    assert describe(FileNotFoundError(2, "No such file", ODD)) == f"{ESCAPED}: No such file"
    assert describe(ValueError("two\n  lines \x1b[1m")) == r"two lines \x1b[1m"


def run(code: str, *arguments: str):
    program = f"from agedge.cli import run_command\nimport typer\n{code}\nrun_command(command)"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


def test_exit_statuses_and_a_wrong_command_line():
    code = "def command(number: int, fail: int = 0):\n    if fail: raise typer.Exit(fail)\n    return True"
    assert run(code, "1").returncode == 0
    assert run(code, "1", "--fail", "7").returncode == 7
    wrong = run(code, "1", "--\x1b]0;x\x07")
    assert wrong.returncode == 2 and r"No such option: --\x1b]0;x\x07" in wrong.stderr and "\x1b" not in wrong.stderr
    assert run(code, "x").returncode == 2
    help_page = run(code, "--help")
    assert help_page.returncode == 0 and "--fail" in help_page.stdout
    stopped = run("def command():\n    raise KeyboardInterrupt")
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr

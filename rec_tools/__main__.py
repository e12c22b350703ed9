"""Run `python -m rec_tools`. Worker processes import this file too, so it imports the commands only when it is run."""

if __name__ == "__main__":
    from agedge.cli import run_command
    from rec_tools.cli import app

    run_command(app)

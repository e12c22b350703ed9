"""python -m rec_tools. Worker processes import this file too; the doors come in only where it runs."""

if __name__ == "__main__":
    from agedge.cli import run_door
    from rec_tools.doors import app

    run_door(app)

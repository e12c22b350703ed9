"""Read face data sets, pack them into RecordIO files, and work with these: `python -m rec_tools COMMAND`."""

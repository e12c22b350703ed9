"""Raw data sets into RecordIO: `python -m rec_tools pack|draw`."""

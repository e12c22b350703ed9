"""Raw data sets into RecordIO: `python -m rec_tools pack|inspect|draw`."""

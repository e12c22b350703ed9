"""File formats of data sets: tables, MATLAB files, JSON lists and file names."""

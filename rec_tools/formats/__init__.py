"""Read the file formats of data sets: tables, Matlab files, JSON lists, image folders, file names."""

"""Checks of model files before a native library reads them."""

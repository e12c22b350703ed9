"""Weights: loading, parameter groups and averages."""

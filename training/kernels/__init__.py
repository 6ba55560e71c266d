"""Fitting kernel machines on a hop's descriptors and a potential's features."""

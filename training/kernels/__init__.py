"""Fitting kernel machines and perceptrons on a hop's descriptors and a potential's features."""

"""Fitting the conductivity of crystals to measured ones."""

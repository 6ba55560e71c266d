"""Timings of ionpath against what a user knows; `make bench` prints the table."""

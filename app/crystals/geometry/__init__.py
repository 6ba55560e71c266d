"""Lattices, periodic distances, contacts between atoms, and when two bands are the same."""

"""Crystals and bands: readers of files, and the geometry of hops, without networks."""

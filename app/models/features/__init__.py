"""Descriptors of a hop: numbers computed from its geometry and chemistry."""

"""Graphs, networks and checkpoints: the only place where there are tensors."""

"""Bond valence site energies on tensors: of any position, along a path, on a grid; and how a grid percolates."""

"""Cutoffs of CHGNet 0.3.0; separate from its layers, since bonds are found without torch."""

ATOM_CUTOFF_ANGSTROM = 6.0
BOND_CUTOFF_ANGSTROM = 3.0

"""How far CHGNet 0.3.0 sees; apart from its layers, since bonds are found where no tensors are."""

ATOM_CUTOFF_ANGSTROM = 6.0
BOND_CUTOFF_ANGSTROM = 3.0

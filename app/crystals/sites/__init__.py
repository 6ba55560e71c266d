"""The sites of an ion and of its host: occupancies, symmetry, supercells, orderings, interstitial sites."""

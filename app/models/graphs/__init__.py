"""Graphs of bands and of crystals: shells of neighbours, the bonds of the ion, the graph of a potential."""

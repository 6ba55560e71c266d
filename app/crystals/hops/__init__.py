"""Hops between sites: the search for distinct ones, their bands, and how they percolate."""

"""Crystals in bulk: from a folder or an archive to ranked rows, on Ray Data; the report on them."""

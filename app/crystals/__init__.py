"""Crystals and bands: what is read from files, before any network sees it."""

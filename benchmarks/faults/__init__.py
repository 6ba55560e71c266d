"""The service while something breaks, overloaded, and for a long time: what is answered, refused and lost."""

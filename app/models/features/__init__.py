"""Hand-made numbers that describe a hop."""

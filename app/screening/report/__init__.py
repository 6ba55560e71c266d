"""What came of a screening: the ranking, one HTML file, and the best crystals for the next step."""

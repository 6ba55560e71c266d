"""The cards of checkpoints: what a model is, what it was fitted on, and how good it is."""

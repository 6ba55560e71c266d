"""From a prepared band to a prediction: one predictor for each kind of network."""

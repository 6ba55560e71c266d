"""Every kind of model on the same folds: one table, one figure."""

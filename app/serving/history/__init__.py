"""Predictions found again: records, jobs that run, exports."""

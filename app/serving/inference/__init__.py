"""Admission control, the queue, the batcher, and the workers that prepare bands and run models."""

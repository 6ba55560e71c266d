"""From uploaded bytes to a canonical input, in worker processes that can be ended."""

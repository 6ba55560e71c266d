"""From an upload to an answer: reading, caching, batching, logging."""

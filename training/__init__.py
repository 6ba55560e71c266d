"""From records of barriers to checkpoints that the service loads."""

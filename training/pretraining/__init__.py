"""The trunk's pre-training: bulk properties of many crystals, all at once (MPT)."""

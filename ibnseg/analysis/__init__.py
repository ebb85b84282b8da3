"""Looking at what a network does, beyond its numbers."""

"""What a text does, measured, and how far to trust that."""

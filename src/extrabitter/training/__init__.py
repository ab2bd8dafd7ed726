"""Training of base models, by demonstration and by reward, on any task."""

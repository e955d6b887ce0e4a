"""Training sets in the formats of trainers."""

"""The words that a shell offers for a PORT, from as few reads as possible."""

"""What a claim has done and is about to do, on disk before it does it."""

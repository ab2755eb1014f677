"""The scripts in completions/, driven in real shells on a terminal."""

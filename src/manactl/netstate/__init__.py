"""The network state of a port as values: snapshot, difference, requests, words. Pure."""

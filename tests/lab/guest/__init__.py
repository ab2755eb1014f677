"""Programs for the guest: real users of a port, and witnesses of what its users see.

They stand for programs that know nothing of manactl, so none of them imports it: a mistake in
manactl's own idea of a command or a layout cannot hide in its tests. Each runs on its own as
`python3 /manactl/tests/lab/guest/NAME.py`, reads commands from standard input, one a line, and
prints JSON lines, so that a test waits for facts and never for time.
"""

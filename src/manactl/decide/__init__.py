"""Facts in, decisions out: owner, guards, waivers, known kernel bugs. Pure, no I/O."""

"""Puts small faults into the program, one at a time, and reports those that no test notices.

`mutate` makes the faults, `reach` measures once which test runs which line, `check` runs against
each fault only those tests, in a `box`, and `report` prints what survived.

Why not a library: mutmut 3 changes only bodies of functions without decorators, but much of what
decides here is a table at the top of a module; its switch between variants lives in one process,
so processes that tests start run the program as it was. cosmic-ray edits the working tree and
starts the whole test command again for every fault, which takes minutes where a fork takes half
a second. Neither keeps changed code, which may signal any process, from the machine it runs on.
"""

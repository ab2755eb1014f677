"""`python3 -m tests.lab.ask CONTROL QUESTION [key=value]...`: ask a running NIC, from outside.

CONTROL is the NIC's control socket, as `make lab` prints it; QUESTION one of its operations.
"""

from __future__ import annotations

import argparse
import json
import sys

from .nic.client import NicClient, NicError


def value(text: str) -> object:
    """A JSON value where it is one (5, true), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.ask", description=__doc__)
    parser.add_argument("control")
    parser.add_argument("question", help="state, history, violations, objects, log, link, ...")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="as up=false for link")
    wanted = parser.parse_args()
    words = dict(word.partition("=")[::2] for word in wanted.arguments)
    client = NicClient(wanted.control)
    try:
        answer = client.ask(wanted.question, **{key: value(text) for key, text in words.items()})
    except NicError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        client.close()
    print(json.dumps(answer, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

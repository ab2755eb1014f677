"""Ask libmana for a raw queue pair on a plain protection domain, as a first program does.

    VERBS_LOG_LEVEL=4 VERBS_LOG_FILE=PATH python3 parentdomain.py DEVICE

libmana refuses before it asks the kernel; without those two variables it says nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.enums import IBV_QPT_RAW_PACKET
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.qp import QP, QPCap, QPInitAttr

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell


def main(device: str) -> None:
    with Context(name=device) as context, PD(context) as pd, CQ(context, 64) as cq:
        cap = QPCap(max_send_wr=64, max_recv_wr=1, max_send_sge=1, max_recv_sge=1)
        try:
            QP(pd, QPInitAttr(IBV_QPT_RAW_PACKET, scq=cq, rcq=cq, cap=cap))
        except PyverbsRDMAError as error:
            tell("refused", errno=abs(error.error_code))


if __name__ == "__main__":
    main(sys.argv[1])

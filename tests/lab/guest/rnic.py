"""A user of the RNIC: RC queue pairs on the function's other RDMA device, made by pyverbs.

    python3 rnic.py DEVICE

Says `ready` with what it could make ("pd", "mr", "cq", "qp"). Commands: `pair PORT [GID]` (two queue
pairs connected to each other by the address of that index, and brought to RTS), `chat ID` (messages
of all lengths between them, by turns, each compared, until `hush`), `drop ID` (destroy such a pair),
`quit` (close it all). It never touches a vport: RC queue pairs beside an Ethernet netdev are the
ordinary case on Azure.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[3]))
from pyverbs import enums
from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsError
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR

from tests.lab.guest.lines import obey, tell

LONGEST = 3000  # bytes of a message; three packets
SEND = enums.IBV_WR_SEND
PATIENCE = 20.0  # seconds per message
PACE = 0.05  # seconds between messages: an emulated CPU has other things to do


class Rnic:
    """One open device, and the pairs of queue pairs on it."""

    def __init__(self, device: str) -> None:
        self.made: list[str] = []
        self.failure: str | None = None
        self.held = contextlib.ExitStack()
        self.pairs: dict[int, contextlib.ExitStack] = {}
        self.ends: dict[int, tuple[QP, QP]] = {}
        self.next_id = 0
        self.chatting: threading.Thread | None = None
        self.stop = threading.Event()
        self.right, self.turns, self.said_wrong = 0, 0, ""
        try:
            self.context = self.hold("context", Context(name=device))
            self.pd = self.hold("pd", PD(self.context))
            self.mr = self.hold("mr", MR(self.pd, 2 * LONGEST, enums.IBV_ACCESS_LOCAL_WRITE))
            self.cq = self.hold("cq", CQ(self.context, 64))
            self.hold("qp", self.queue_pair())
        except PyverbsError as error:
            self.failure = str(error)

    def hold(self, name: str, made: Any) -> Any:
        self.held.callback(made.close)
        if name != "context":
            self.made.append(name)
        return made

    def queue_pair(self) -> QP:
        limits = QPCap(max_send_wr=16, max_recv_wr=16, max_send_sge=1, max_recv_sge=1)
        return QP(
            self.pd,
            QPInitAttr(qp_type=enums.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=limits),
        )

    def pair(self, port: str, index: str = "0") -> None:
        with contextlib.ExitStack() as undo:
            try:
                gid = self.context.query_gid(int(port), int(index))
                one, other = self.queue_pair(), self.queue_pair()
                undo.callback(one.close)
                undo.callback(other.close)
                for own, peer in ((one, other), (other, one)):
                    own.to_rts(self.route(int(port), gid, int(index), peer))
            except PyverbsError as error:
                tell("refused", failure=str(error))
                return
            self.next_id += 1
            self.pairs[self.next_id] = undo.pop_all()
            self.ends[self.next_id] = one, other
        states = [int(one.qp_state), int(other.qp_state)]
        tell("paired", id=self.next_id, states=states, rts=enums.IBV_QPS_RTS)

    def route(self, port: int, gid: Any, index: int, peer: QP) -> QPAttr:
        """What leads from INIT to RTS; both ends have the same address."""
        attributes = QPAttr(port_num=port)
        attributes.qp_access_flags = enums.IBV_ACCESS_LOCAL_WRITE
        attributes.dest_qp_num = peer.qp_num
        attributes.path_mtu = enums.IBV_MTU_1024
        attributes.max_dest_rd_atomic = attributes.max_rd_atomic = 1
        attributes.min_rnr_timer = 12
        attributes.retry_cnt = attributes.rnr_retry = 7
        attributes.timeout = 14
        way = GlobalRoute(dgid=gid, sgid_index=index)
        way.hop_limit = 64
        attributes.ah_attr = AHAttr(gr=way, is_global=1, port_num=port)
        return attributes

    def chat(self, number: str) -> None:
        ends = self.ends[int(number)]
        self.stop.clear()
        self.chatting = threading.Thread(target=self.say_to_each_other, args=ends)
        self.chatting.start()
        tell("chatting")

    def hush(self) -> None:
        assert self.chatting is not None
        self.stop.set()
        self.chatting.join()
        tell("hushed", right=self.right, turns=self.turns, failure=self.said_wrong)

    def say_to_each_other(self, sender: QP, receiver: QP) -> None:
        self.right, self.turns, self.said_wrong = 0, 0, ""
        while not self.stop.is_set():
            text = os.urandom(self.turns * 37 % LONGEST + 1)
            self.turns += 1
            self.mr.write(text, len(text))
            self.mr.write(bytes(LONGEST), LONGEST, LONGEST)
            room = SGE(self.mr.buf + LONGEST, LONGEST, self.mr.lkey)
            receiver.post_recv(RecvWR(num_sge=1, sg=[room]))
            sender.post_send(
                SendWR(num_sge=1, sg=[SGE(self.mr.buf, len(text), self.mr.lkey)], opcode=SEND)
            )
            self.said_wrong = self.both_done()
            if self.said_wrong:
                return
            self.right += self.mr.read(len(text), LONGEST) == text
            sender, receiver = receiver, sender
            self.stop.wait(PACE)

    def both_done(self) -> str:
        """Wait for the completions of a message; what went wrong, if anything."""
        deadline, missing = time.monotonic() + PATIENCE, 2
        while missing:
            found, completions = self.cq.poll(missing)
            for completion in completions:
                if completion.status != enums.IBV_WC_SUCCESS:
                    return f"{completion.opcode}: {completion.status}"
            missing -= found
            if time.monotonic() > deadline:
                return f"{missing} of 2 completions did not come"
            if not found:
                os.sched_yield()
        return ""

    def drop(self, number: str) -> None:
        self.pairs.pop(int(number)).close()
        del self.ends[int(number)]
        tell("dropped", id=int(number))

    def quit(self) -> NoReturn:
        for pair in self.pairs.values():
            pair.close()
        self.held.close()
        tell("leaving", pid=os.getpid())
        sys.exit(0)


def main(arguments: list[str]) -> None:
    rnic = Rnic(arguments[0])
    tell("ready", pid=os.getpid(), device=arguments[0], made=rnic.made, failure=rnic.failure)
    obey({name: getattr(rnic, name) for name in ("pair", "chat", "hush", "drop", "quit")})


if __name__ == "__main__":
    main(sys.argv[1:])

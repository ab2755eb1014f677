"""A claim that was made in another network namespace than manactl runs in now.

What it has written down are the addresses and routes of that namespace, a container's for
instance. A netdev leaves one that ends by itself and comes back to the first, down; were anything
of the claim restored there, one tenant's addresses would be in another one's tables. So nothing is:
not even IFF_UP, for the kernel configures addresses on a netdev that is set up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from manactl.act import outcome_words
from manactl.act.host import Host
from manactl.act.plan import KeepState, Step
from manactl.errors import Busy, NotRestored
from manactl.escape import command, link
from manactl.journal.file import Content
from manactl.look.netns import Namespace
from manactl.model.claim import ClaimSummary, NetnsId
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Evidence, PortId, PortStatus
from manactl.netstate import snapshot

CODE = "foreign-netns"
_SHOWN = 50  # facts in the message; all are in the journal


class Foreign(NamedTuple):
    """The other namespace, and where it is to be found; None: it is gone, or nothing leads to it."""

    netns: NetnsId
    place: Namespace | None

    @property
    def gone(self) -> bool:
        return self.place is None

    @property
    def called(self) -> str:
        """What messages call it."""
        if self.place is None:
            return outcome_words.namespace_gone(self.netns.inode)
        return outcome_words.namespace(self.place.name or self.place.inode)

    def command(self, *words: str) -> str:
        """The command to run there, while it is."""
        assert self.place is not None
        if self.place.name == self.place.path:
            there = outcome_words.mount_sys(command(*words))
            enter = ("nsenter", f"--net={self.place.path}", "unshare", "--mount")
            return command(*enter, "sh", "-c", there)
        return command("ip", "netns", "exec", self.place.name, *words)

    def refused(self, verb: str, steps: Mapping[PortId, Sequence[Step]]) -> NotRestored:
        """Why the claim is not undone here, with all that stays unrestored."""
        names = [_name(port, begun) for port, begun in steps.items()]
        lines = [line for begun in steps.values() for line in facts_of(begun)]
        story = outcome_words.of_namespace(", ".join(names), self.called, lines, _SHOWN)
        if self.gone:
            hint = outcome_words.set_up_by_hand(map(str, steps))
        else:
            again = [str(port) for port in steps] if verb == "release" else []
            hint = outcome_words.run_there(
                self.command("manactl", verb, *again), self.back("NETDEV")
            )
        return NotRestored(
            story,
            hint=hint,
            evidence=[
                Evidence("journal", "network namespace of the claim", self.netns._asdict()),
                *(Evidence("journal", "not restored", line) for line in lines),
            ],
            code=CODE,
        )

    def back(self, netdev: str) -> str:
        """The command that moves a netdev there, while it is."""
        assert self.place is not None
        name, path = self.place.name, self.place.path
        # By its name, the pid of a process in it, or the path of a mount.
        target = path.split("/")[2] if path.startswith("/proc/") else name
        return command("ip", "link", "set", *link(netdev), "netns", target)


def of(host: Host, content: Content) -> Foreign | None:
    """The namespace of a claim that was not made here; None for one that was, or may have been."""
    claimed_in = content.netns
    if claimed_in is None or claimed_in.is_same(host.netns()):
        return None
    return Foreign(claimed_in, host.find_netns(claimed_in))


def refuse_covered(host: Host, claim: ClaimSummary, port: PortStatus) -> None:
    """Busy when the claim that a port has is one of another namespace: it covers nothing here."""
    if claim.netns is None or claim.netns.is_same(host.netns()):
        return
    there = Foreign(claim.netns, host.find_netns(claim.netns))
    away = (
        outcome_words.acceptance_alone([port.label])
        if there.gone
        else outcome_words.release_there(there.command("manactl", "release", str(claim.port)))
    )
    raise Busy(
        f"{port.label} was claimed in the {there.called}, and that claim is open; nothing was "
        "touched",
        hint=away,
        evidence=[Evidence("journal", "network namespace of the claim", claim.netns._asdict())],
        code="drift",
    )


def facts_of(steps: Sequence[Step]) -> Iterator[str]:
    """What the claim had written down, as iproute2 shows it; without what the kernel makes."""
    for step in steps:
        if isinstance(step, KeepState):
            for fact in step.state.facts:
                if not snapshot.derived(fact):
                    yield snapshot.describe(fact, step.state.names)


def _name(port: PortId, steps: Sequence[Step]) -> str:
    kept = [step.state.ifname for step in steps if isinstance(step, KeepState)]
    return f"{port} (then {kept[0]})" if kept else str(port)

"""What completion offers for a PORT, and the words beside it. Pure: facts in, words out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from manactl.model.named_tuple import NamedTuple

if TYPE_CHECKING:
    from manactl.completion.addresses import AddressFacts
    from manactl.completion.claims import Claims
    from manactl.completion.names import Port


Which = Literal["all", "claimable", "claimed", "unconfirmed"]  # the ports that a parameter is for


class Word(NamedTuple):
    """A word, the port it names, and the interface whose addresses describe it."""

    text: str
    port: Port
    ifindex: int | None


def with_destroyed(ports: Iterable[Port], claims: Claims | None) -> list[Port]:
    """With the name of the synthetic netdev that a claim for uio has destroyed: release makes it
    again, and status and release know the port by it meanwhile."""
    uppers = dict(claims.destroyed) if claims is not None else {}
    return [
        port if port.master else port._replace(master=uppers.get((port.pci, port.number)))
        for port in ports
    ]


def fitting(
    ports: Iterable[Port], which: Which, claims: Claims | None, given: Collection[str]
) -> list[Port]:
    """The ports to offer: of the right kind, and not named on the line already.

    Without `claims` (they are root's to read) a port that is not up may be claimed or not: it
    fits both, unless a raw QP has its vport: then it cannot be claimed.
    """
    return [port for port in ports if _fits(port, which, claims) and not _given(port, given)]


def _fits(port: Port, which: Which, claims: Claims | None) -> bool:
    key = (port.pci, port.number)
    if which == "claimable":
        claimed = claims is not None and key in claims.now
        return port.netdev is not None and not claimed and not port.raw_qp
    if which == "unconfirmed":
        return not port.up if claims is None else key in claims.unconfirmed
    if which == "claimed":
        return not port.up if claims is None else key in claims.now | claims.history
    return True


def _given(port: Port, given: Collection[str]) -> bool:
    names = {port.netdev, port.master, *port.rdma}
    loose = {port.id.lower(), (port.mac or port.id).lower()}
    return any(word in names or word.lower() in loose for word in given)


def words(
    ports: Collection[Port], start: str, every: Collection[Port], altnames: Iterable[Word] = ()
) -> list[Word]:
    """What can follow `start`: netdevs and masters first, other names when it fits only those.

    A master is a name of its port only when none of `every` other port has it too. `altnames`
    is consumed only when nothing else fits.
    """
    masters = [port.master for port in every]
    first = _matching(_first(ports, masters), start)
    # A PCI address stands in for a netdev only as long as nothing of it is typed.
    if any(not start or word.text != word.port.id for word in first):
        return first
    return _matching(_others(ports), start) or _matching(altnames, start)


def _matching(words: Iterable[Word], start: str) -> list[Word]:
    return list({word.text: word for word in words if word.text.startswith(start)}.values())


def usable(name: str | None) -> bool:
    """Whether a name can be handed to a shell: no control characters, and no start of an option."""
    return bool(name and name.isprintable() and not name.startswith("-"))


def _first(ports: Iterable[Port], masters: list[str | None]) -> Iterator[Word]:
    for port in ports:
        name = port.netdev if usable(port.netdev) else None
        yield Word(name or port.id, port, port.ifindex)
        if port.master and usable(port.master) and masters.count(port.master) == 1:
            yield Word(port.master, port, port.master_ifindex)


def _others(ports: Iterable[Port]) -> Iterator[Word]:
    for port in ports:
        for text in (port.id, port.mac, *port.rdma):
            if text and usable(text):
                yield Word(text, port, port.ifindex)


def describe(word: Word, addresses: Mapping[int, AddressFacts], claims: Claims | None) -> str:
    """`ethernet, 10.0.1.4, default route`; the netdev's name too where the word is another."""
    port = word.port
    parts = []
    if port.netdev is None:
        parts.append("in another network namespace")
    elif word.text == port.netdev:
        parts += [f"master {port.master}"] if port.master else []
    else:
        parts.append(f"master of {port.netdev}" if word.text == port.master else port.netdev)
    if port.up:
        parts.insert(0, "ethernet")
    elif port.raw_qp:
        parts.insert(0, "raw-qp")
    elif port.up is False:
        parts.insert(0, "down")
    facts = addresses.get(word.ifindex) if word.ifindex else None
    if facts:
        parts += [facts.address] if facts.address else []
        parts += ["default route"] if facts.default_route else []
    key = (port.pci, port.number)
    if claims is not None and key in claims.now:
        parts.append("claimed")
    elif claims is not None and key in claims.history:
        parts.append("claimed before the last boot")
    return ", ".join(parts)

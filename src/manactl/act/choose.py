"""Which claims a release or a recovery is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manactl.act.host import Host
from manactl.errors import Denied, UsageError, lacking
from manactl.journal import file as journal
from manactl.model.claim import ClaimSummary
from manactl.model.port import PortId, PortStatus, Report
from manactl.model.value import Value
from manactl.report import resolve


class Chosen(Value):
    """The claimed ports that are meant, and the ports named that no claim covers."""

    claims: tuple[ClaimSummary, ...]
    unclaimed: tuple[PortStatus, ...] = ()


def open_claims(state_dir: Path, host: Host) -> journal.Claims:
    """Every claimed port by the journals, and the journals that cannot be read."""
    try:
        return journal.list_claims(state_dir, host.boot_id())
    except PermissionError:
        raise Denied(
            f"{state_dir} is not readable",
            untouched="nothing was touched",
            hint="run it as root, for instance with sudo",
        ) from None
    except OSError as error:
        raise lacking(error, "nothing was touched") or error from error


def choose(
    claims: Sequence[ClaimSummary], host: Host, words: Sequence[str], *, everything: bool
) -> Chosen:
    """The claims that words name; without words the only one."""
    if everything or not (claims or words):
        return Chosen(tuple(claims))
    report = host.look()
    if not words:
        if len({claim.path for claim in claims}) > 1:
            listed = ", ".join(_label(claim.port, report) for claim in claims)
            raise UsageError(
                f"several claims: {listed}", hint="name the ports to release, or use --all"
            )
        return Chosen(tuple(claims))
    chosen: dict[PortId, ClaimSummary] = {}
    unclaimed: list[PortStatus] = []
    for word in words:
        mine = [claim for claim in claims if word.lower() in _names(claim.port)]
        if not mine:
            try:
                (port,) = resolve(report, [word])
            except UsageError:
                mine = _had(word, claims)
                if not mine:
                    raise
            else:
                mine = [claim for claim in claims if claim.port.key == port.id.key]
                if not mine and (other := _had(word, claims)):
                    raise _ambiguous(word, port, other[0])
                if not mine:
                    unclaimed.append(port)
        chosen.update({claim.port: claim for claim in mine})
    return Chosen(tuple(chosen.values()), tuple(unclaimed))


def _ambiguous(word: str, port: PortStatus, claim: ClaimSummary) -> UsageError:
    """Another netdev may have got the name of one that is gone: either port may be meant."""
    return UsageError(
        f"{word} is port {port.id} now, which is not claimed; when port {claim.port} was claimed, "
        f"{word} was that one; nothing was touched",
        hint=f"name the one that you mean by PCI address and port number: {claim.port}, or {port.id}",
    )


def _had(word: str, claims: Sequence[ClaimSummary]) -> list[ClaimSummary]:
    """The claim of the port that had the name when it was claimed; none where several had. A netdev
    that was re-created has lost its altnames, and while the host has taken the VF of a pair there is
    no port at all."""
    had = [claim for claim in claims if word in claim.names]
    return had if len({claim.port.key for claim in had}) == 1 else []


def _names(port: PortId) -> tuple[str | None, ...]:
    """The words that name a port also when its netdev is gone."""
    return str(port), port.permanent_mac


def _label(port: PortId, report: Report) -> str:
    return next((row.label for row in report.ports if row.id.key == port.key), str(port))

"""Random networks on two ports, and the judge that tells whether one is as it was.

Nothing here knows manactl. A network is a list of `ip` commands and sysctls drawn from a seed;
the judge reads everything that `ip` prints and the sysctl trees, and compares. Lifetimes count as
there or not there, since time passes.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("vlan", "macvlan")  # of device that a port gets on top
TABLES = (254, 254, 100, 4000)
PROTOCOLS = ("boot", "static", "199")
# Key and values that differ from the defaults; all of them survive on a device that stays up.
SYSCTLS = {
    "ipv4/conf": (
        ("rp_filter", (0, 1, 2)), ("arp_ignore", (1, 2)), ("arp_announce", (1, 2)),
        ("proxy_arp", (1,)), ("accept_local", (1,)), ("log_martians", (1,)), ("tag", (7,)),
        ("send_redirects", (0,)), ("medium_id", (3,)), ("ignore_routes_with_linkdown", (1,)),
        ("promote_secondaries", (1,)), ("forwarding", (0, 1)), ("arp_evict_nocarrier", (0,)),
    ),
    "ipv4/neigh": (
        ("gc_stale_time", (77,)), ("mcast_solicit", (5,)), ("retrans_time_ms", (900,)),
        ("base_reachable_time_ms", (40000,)), ("unres_qlen_bytes", (100000,)),
    ),
    "ipv6/conf": (
        ("mtu", (1280, 1400, 1499)), ("hop_limit", (33,)), ("accept_ra", (0, 2)),
        ("keep_addr_on_down", (1,)), ("forwarding", (1,)), ("dad_transmits", (2,)),
        ("addr_gen_mode", (1, 3)), ("ndisc_notify", (1,)), ("max_addresses", (20,)),
        ("router_solicitations", (0,)), ("autoconf", (0,)), ("ignore_routes_with_linkdown", (1,)),
        ("ndisc_evict_nocarrier", (0,)), ("accept_redirects", (0,)),
    ),
    "ipv6/neigh": (
        ("gc_stale_time", (78,)), ("ucast_solicit", (4,)), ("proxy_qlen", (10,)),
        ("base_reachable_time_ms", (41000,)),
    ),
}  # fmt: skip
TREES = tuple(f"net/{tree}" for tree in SYSCTLS)
# What `ip` is asked, by its options: one process each for all of a row.
VIEWS = {
    "": ("link show", "address show", "nexthop show", "token list",
         "neighbour show nud reachable nud stale"),
    "-4": ("route show table all", "rule show", "neighbour show nud permanent",
           "neighbour show proxy"),
    "-6": ("route show table all", "rule show", "neighbour show nud permanent",
           "neighbour show proxy"),
}  # fmt: skip
# What only passing time changes, a bridge's timers and what it has learnt, and a bond's counter
# of failures included; an address stays tentative where there is no carrier.
TIMES = {"valid_life_time", "preferred_life_time", "expires", "tentative", "gc_timer",
         "hello_timer", "hold_timer", "message_age_timer", "forward_delay_timer", "tcn_timer",
         "topology_change_timer", "fdb_n_learned", "link_failure_count"}  # fmt: skip
_IN_ORDER = ("link show", "address show", "-4 route", "-4 rule", "-6 rule")
_MARK = "=== "
_LINE = "\\n"


@dataclass
class Device:
    """A port or something on it. `n` numbers its networks."""

    name: str
    n: int
    kind: str
    lower: Device | None = None
    up: bool = True
    options: str = ""

    @property
    def works(self) -> bool:
        """Up, and everything below it, too."""
        return self.up and (self.lower is None or self.lower.works)

    def v4(self, subnet: int, host: int) -> str:
        return f"10.{self.n}.{subnet}.{host}"

    def v6(self, subnet: int, host: int) -> str:
        return f"2001:db8:{self.n:x}:{subnet:x}::{host:x}"


@dataclass
class Network:
    """The commands that make it, in order; `devices` are the ports and all that stands on them."""

    devices: list[Device]
    links: list[str] = field(default_factory=list)
    sysctls: list[tuple[str, str]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def script(self) -> str:
        """For `sh`: exits 0, and tells on standard error what the kernel would not have."""
        writes = "\n".join(
            f"[ ! -e /proc/sys/net/{k} ] || echo {v} > /proc/sys/net/{k}" for k, v in self.sysctls
        )
        return "\n".join([_batch(self.links), writes, _batch(self.states), _batch(self.facts)])


def _batch(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    return f"ip -force -batch - <<'END' || true\n{text}\nEND" if lines else ""


class Generator:
    """Draws one network. `kinds` are the kinds of device that the kernel can stack.

    Without `kept_carriers` nothing is up on a port that is down: it has the carrier of the time
    at which that was up, which one that is made again has never had.
    """

    def __init__(
        self,
        seed: str,
        ports: Sequence[str],
        kinds: Sequence[str] = KINDS,
        *,
        default_routes: bool = True,
        kept_carriers: bool = True,
    ) -> None:
        self.rng = random.Random(seed)
        self.kinds = kinds
        self.kept_carriers = kept_carriers
        self.default_routes = default_routes
        self.net = Network([Device(name, n, "port") for n, name in enumerate(ports, 1)])
        self.nexthops: dict[int, list[int]] = {4: [], 6: []}

    def draw(self) -> Network:
        rng, net = self.rng, self.net
        dad = rng.random() < 0.15
        self._stack()
        for device in net.devices:
            if not dad:
                net.sysctls.append((f"ipv6/conf/{device.name}/accept_dad", "0"))
            self._settings(device)
        for device in net.devices:
            net.facts += self._addresses(device)
        working = [device for device in net.devices if device.works]
        for device in net.devices:
            net.facts += self._neighbours(device)
        for device in working:
            net.facts += self._routes(device)
        self._nexthop_objects(working)
        net.facts += self._across(working)
        net.facts += self._rules(net.devices)
        return net

    def some(self, most: int) -> range:
        return range(self.rng.randint(0, most))

    def chance(self, of: float) -> bool:
        return self.rng.random() < of

    # -- devices

    def _stack(self) -> None:
        rng, net = self.rng, self.net
        ports = list(net.devices)
        net.links += [f"link set {port.name} down" for port in ports]
        for port in ports:
            for _ in self.some(3):
                self._on(port)
            for device in [d for d in net.devices if d.lower is port]:
                for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
                    self._on(device)
        if self.chance(0.1):
            net.devices[1].up = False
        if not self.kept_carriers:
            off = [port for port in ports if not port.up]
            for device in net.devices:  # from the bottom up
                if device.lower in off:
                    device.up = False
                    off.append(device)
        # A VLAN has carrier until it was open and closed once, so that what stands on it would
        # have it, too: each is opened first, and those that are to be down are closed again.
        stacked = net.devices[len(ports) :]
        net.states = [f"link set {d.name} up" for d in [*ports, *stacked]]
        net.states += [f"link set {d.name} down" for d in reversed(net.devices) if not d.up]

    def _on(self, lower: Device) -> None:
        rng, net = self.rng, self.net
        n = len(net.devices) + 1
        kind = rng.choice(self.kinds)
        name = f"{'v' if kind == 'vlan' else 'm'}{n}"
        options = {
            "vlan": f"id {100 + n} protocol {rng.choice(('802.1Q', '802.1Q', '802.1ad'))} "
            + rng.choice(("", "", "", "reorder_hdr off", "loose_binding on")),
            "macvlan": "mode " + rng.choice(("bridge", "vepa", "private")),
            "macvtap": "mode " + rng.choice(("bridge", "vepa", "private")),
        }[kind]
        device = Device(name, n, kind, lower, self.chance(0.65), options)
        net.devices.append(device)
        net.links.append(f"link add link {lower.name} name {name} type {kind} {options}")

    def _settings(self, device: Device) -> None:
        for tree, keys in SYSCTLS.items():
            for key, values in keys:
                if self.chance(0.12):
                    value = str(self.rng.choice(values))
                    self.net.sysctls.append((f"{tree}/{device.name}/{key}", value))

    # -- what they carry

    def _addresses(self, d: Device) -> Iterator[str]:
        rng = self.rng
        add = "address add"
        for k in self.some(3):
            more = rng.choice(
                ("", "", f"label {d.name}:{k}", "metric 77", "noprefixroute", "scope link",
                 "valid_lft 900 preferred_lft 800", "valid_lft 9000 preferred_lft 0")
            )  # fmt: skip
            yield f"{add} {d.v4(k, 2)}/24 dev {d.name} {more}"
            if self.chance(0.3):
                yield f"{add} {d.v4(k, 3)}/24 dev {d.name}"
        if self.chance(0.2):
            yield f"{add} {d.v4(200, 2)} peer {d.v4(200, 7)}/32 dev {d.name}"
        if self.chance(0.2):
            yield f"{add} {d.v4(201, 2)}/32 dev {d.name}"
        for k in self.some(3):
            more = rng.choice(
                ("", "", "nodad", "metric 55", "noprefixroute", "mngtmpaddr", "home nodad",
                 "valid_lft 900 preferred_lft 800", "valid_lft 9000 preferred_lft 0")
            )  # fmt: skip
            yield f"{add} {d.v6(k, 2)}/64 dev {d.name} {more}"
            if self.chance(0.3):
                yield f"{add} {d.v6(k, 3)}/64 dev {d.name} nodad"
        if self.chance(0.2):
            yield f"{add} {d.v6(200, 2)} peer {d.v6(200, 7)}/128 dev {d.name}"
        if self.chance(0.2):
            yield f"{add} fe80::{d.n:x}:77/64 dev {d.name}"
        if self.chance(0.1):
            yield f"address add {d.v4(0, 2)}/24 dev {d.name}"
            yield f"route del {d.v4(0, 0)}/24 dev {d.name} proto kernel"

    def _neighbours(self, d: Device) -> Iterator[str]:
        for k in self.some(2):
            lladdr = f"lladdr 02:00:00:00:{d.n:02x}:{k:02x} dev {d.name}"
            yield f"neighbour add {d.v4(0, 50 + k)} {lladdr} nud permanent"
            yield f"neighbour add {d.v6(0, 50 + k)} {lladdr} nud permanent router"
        if self.chance(0.3):
            lladdr = f"lladdr 02:00:00:00:00:60 dev {d.name}"
            yield f"neighbour add {d.v4(0, 60)} {lladdr} nud reachable extern_learn"
        if self.chance(0.4):
            yield f"neighbour add proxy {d.v4(0, 70)} dev {d.name}"
        if self.chance(0.4):
            yield f"neighbour add proxy {d.v6(0, 70)} dev {d.name}"

    def _routes(self, d: Device) -> Iterator[str]:
        rng = self.rng
        for k in self.some(4):
            prefix = f"192.{d.n}.{k}.0/24"
            more = self._qualities() + rng.choice(
                ("", "", "mtu lock 1400", "advmss 1300 initcwnd 20", "quickack 1", "realm 5",
                 f"src {d.v4(0, 2)}", "mtu 1300 rto_min 20ms", "congctl lock cubic")
            )  # fmt: skip
            way = rng.choice(
                (f"via {d.v4(0, 9)}", f"via {d.v4(0, 9)}", "scope link", f"via 10.99.{k}.1 onlink",
                 f"via inet6 fe80::{k + 1}", f"via {d.v4(0, 10)} onlink")
            )  # fmt: skip
            yield f"route add {prefix} {way} dev {d.name} {more}"
            if self.chance(0.3):
                yield f"route append {prefix} via {d.v4(0, 11)} onlink dev {d.name} {more}"
            if self.chance(0.2):
                yield f"route add {prefix} via {d.v4(0, 9)} dev {d.name} onlink tos 0x10"
        if self.chance(0.15):
            yield f"route add local 198.51.{d.n}.0/24 dev {d.name}"
        for k in self.some(4):
            prefix = f"2001:db9:{d.n:x}:{k:x}::/64"
            more = self._qualities() + rng.choice(
                ("", "", "mtu 1400", "mtu lock 1300", "expires 900", "pref high", "pref low",
                 "hoplimit 9", "advmss 1200")
            )  # fmt: skip
            way = rng.choice((f"via fe80::{k + 1}", f"via {d.v6(0, 9)}", "", "via fe80::9 onlink"))
            yield f"route add {prefix} {way} dev {d.name} {more}"
            if self.chance(0.2):
                yield f"route add {prefix} via fe80::77 dev {d.name} metric {7000 + k}"
        if self.default_routes and self.chance(0.4):
            yield f"route add default via {d.v4(0, 1)} dev {d.name} onlink metric {100 + d.n}"
        if self.default_routes and self.chance(0.4):
            yield f"route add ::/0 via fe80::1 dev {d.name} metric {2000 + d.n}"

    def _qualities(self) -> str:
        rng = self.rng
        words = f"table {rng.choice(TABLES)} proto {rng.choice(PROTOCOLS)} "
        return words + (f"metric {rng.randint(1, 9000)} " if self.chance(0.5) else "")

    def _nexthop_objects(self, devices: Sequence[Device]) -> None:
        rng, facts = self.rng, self.net.facts
        number = 10
        for d in devices:
            for _ in self.some(2):
                family = rng.choice((4, 6))
                way = f"via {d.v4(0, number)} onlink" if family == 4 else f"via fe80::{number:x}"
                facts.append(f"nexthop add id {number} {way} dev {d.name} proto static")
                self.nexthops[family].append(number)
                number += 1
        for family, members in self.nexthops.items():
            groups = []
            for _ in self.some(2):
                if len(members) < 2:
                    break
                chosen = rng.sample(members, rng.randint(2, min(4, len(members))))
                group = "/".join(f"{one},{rng.randint(1, 5)}" for one in chosen)
                kind = " type resilient buckets 32" if self.chance(0.2) else ""
                facts.append(f"nexthop add id {number} group {group}{kind}")
                groups.append(number)
                number += 1
            for k, used in enumerate([*groups, *members]):
                if self.chance(0.6):
                    table = rng.choice(TABLES)
                    prefix = f"203.0.{k}.0/24" if family == 4 else f"2001:dba:{k:x}::/48"
                    facts.append(f"route add {prefix} nhid {used} table {table}")

    def _across(self, devices: Sequence[Device]) -> Iterator[str]:
        """Multipath routes, over one device or several."""
        for k in self.some(3):
            if not devices:
                return
            ways = [self.rng.choice(devices) for _ in range(self.rng.randint(2, 3))]
            hops4 = [f"nexthop via {d.v4(0, 20 + i)} dev {d.name} weight {self.rng.randint(1, 9)} "
                     "onlink" for i, d in enumerate(ways)]  # fmt: skip
            hops6 = [f"nexthop via fe80::{0x20 + i:x} dev {d.name} weight {self.rng.randint(1, 9)}"
                     for i, d in enumerate(ways)]  # fmt: skip
            table = self.rng.choice(TABLES)
            yield f"route add 198.18.{k}.0/24 table {table} {' '.join(hops4)}"
            yield f"route add 2001:dbb:{k:x}::/48 table {table} {' '.join(hops6)}"

    def _rules(self, devices: Sequence[Device]) -> Iterator[str]:
        for k in self.some(3):
            d = self.rng.choice(devices)
            which = self.rng.choice(
                (f"from {d.v4(0, 0)}/24", f"iif {d.name}", f"oif {d.name}", f"fwmark {k + 1}")
            )
            yield f"rule add {which} table {self.rng.choice((100, 4000))} pref {1000 + k}"
        if self.chance(0.3):
            yield f"rule add from 2001:db8:1::/48 iif {devices[0].name} table 100 pref 1500"


# --- the judge ------------------------------------------------------------------------------


def reading() -> str:
    """The script whose output view() understands."""
    shown = [
        f"echo '{_MARK}{options}'; printf '{_LINE.join(views)}{_LINE}' | ip -j -d {options} -batch -"
        for options, views in VIEWS.items()
    ]
    trees = " ".join(f"/proc/sys/{tree}" for tree in TREES)
    # head takes a fifth of grep's time, which clears a large buffer for each of 2 000 files.
    sysctls = f"find {trees} -type f -print0 | xargs -0 -r head -v -c 4096 2>/dev/null"
    return "\n".join([*shown, f"echo; echo '{_MARK}sysctl'; {sysctls}; true"])


def view(text: str) -> dict[str, list[str]]:
    """Everything, as lines that can be compared."""
    found: dict[str, list[str]] = {}
    for part in text.split(_MARK)[1:]:
        options, _, body = part.partition("\n")
        if options == "sysctl":
            found[options] = sorted(_of_files(body))
            continue
        documents = list(_documents(body))
        for shown, rows in zip(VIEWS[options], documents, strict=True):
            what = f"{options} {shown}".strip()
            kept = [_of_address(row) if shown == "address show" else row for row in rows if row]
            if shown == "link show":
                kept = [_of_link(row) for row in kept]
            if shown.startswith("neighbour"):  # a reachable one is stale after half a minute
                kept = [row | {"state": _aged(row)} for row in kept]
            lines = [json.dumps(_plain(row), sort_keys=True) for row in kept]
            if "reachable" in what:  # the others come and go
                lines = [line for line in lines if "extern_learn" in line]
            found[what] = lines if what.startswith(_IN_ORDER) else sorted(lines)
    return found


def _of_files(shown: str) -> Iterator[str]:
    """PATH:LINE of what `head -v` shows of files."""
    path = ""
    for line in shown.splitlines():
        if line.startswith("==> "):
            path = line.removeprefix("==> ").removesuffix(" <==")
        elif line:
            yield f"{path}:{line}"


def _of_address(row: dict[str, Any]) -> dict[str, Any]:
    """Without what the row of the link has as well."""
    return {key: row[key] for key in ("ifname", "addr_info")}


def _of_link(row: dict[str, Any]) -> dict[str, Any]:
    """Without what the lower of a device without carrier was doing at the moment at which linkwatch
    came to it (default_operstate()); whether it is up and has carrier is in the flags."""
    silent = "NO-CARRIER" in row["flags"]
    return row | {"operstate": "DOWN"} if silent and row["operstate"] == "LOWERLAYERDOWN" else row


def _aged(row: dict[str, Any]) -> list[str]:
    return ["STALE" if state == "REACHABLE" else state for state in row.get("state", [])]


def _documents(text: str) -> Iterator[list[Any]]:
    """JSON texts one after the other."""
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()


_DETECTION = 4.0  # s that duplicate address detection takes at most


def settle(
    read: Callable[[], str], within: float = 60, *, steady: float = 0
) -> dict[str, list[str]]:
    """The view once duplicate address detection is over and two looks in a row agree, `steady`
    seconds apart.

    Without carrier it may never end: then the looks must agree for as long as it could take.
    """
    deadline = time.monotonic() + within
    last, since = None, time.monotonic()
    while True:
        text = read()
        now = view(text)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > (_DETECTION if _detecting(text) else steady):
            return now
        if steady:
            time.sleep(steady / 2)
        assert time.monotonic() < deadline, "the network does not settle"


def _detecting(text: str) -> bool:
    body = text.partition(f"{_MARK}\n")[2].partition(_MARK)[0]
    devices = list(_documents(body))[1]
    return any(
        "UP" in device["flags"] and any("tentative" in one for one in device["addr_info"])
        for device in devices
        if device
    )


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _plain(v, k) for k, v in value.items() if k not in TIMES} | {
            k: v == 0xFFFFFFFF for k, v in value.items() if k == "valid_life_time"
        }
    if isinstance(value, list):
        made = [_plain(one) for one in value]
        # IPv6 keeps no order among the members of a multipath route.
        return sorted(made, key=json.dumps) if key == "nexthops" else made
    return value


def differences(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """Line by line what is not there any more, and what was not there."""
    found = []
    for what, rows in before.items():
        now = after[what]
        found += [f"- {what}: {row}" for row in rows if row not in now]
        found += [f"+ {what}: {row}" for row in now if row not in rows]
        if rows != now and sorted(rows) == sorted(now):
            found += [f"order of {what}: {rows} is now {now}"]
    return found


# A netdev that was re-created has another ifindex. The others are what a driver is capable of, and
# what the kernel counts: nobody has set it. hv_netvsc tells its limit after a VLAN may have been
# made, and adds to its VF's count of who wants promiscuity.
_NUMBERS = {"ifindex", "link_index", "tso_max_size", "tso_max_segs", "promiscuity"}


def without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        skip = _NUMBERS
        if "UP" not in value.get("flags", ("UP",)):
            skip = _NUMBERS | {"qdisc"}  # the default one is there once it was up
        if value.get("operstate") == "UNKNOWN" and "LOWER_UP" in value["flags"]:
            value = value | {"operstate": "UP"}  # linkwatch has not come to it since it was made
        return {k: without_numbers(v) for k, v in value.items() if k not in skip}
    return [without_numbers(one) for one in value] if isinstance(value, list) else value


def numberless(read: dict[str, list[str]]) -> dict[str, list[str]]:
    """A view without numbers, and so in no order of devices."""
    found = {}
    for what, rows in read.items():
        lines = rows
        if what != "sysctl":
            lines = [json.dumps(without_numbers(json.loads(row))) for row in rows]
        found[what] = sorted(lines) if what in ("link show", "address show") else lines
    return found


def facts(read: dict[str, list[str]]) -> set[str]:
    """What an operator would count: addresses, routes, nexthops, neighbours and rules."""
    found: set[str] = set()
    for what, rows in read.items():
        if what in ("sysctl", "link show", "token list"):
            continue
        for row in rows:
            data = json.loads(row)
            if what == "address show":
                name = data["ifname"]
                found |= {f"{name} {json.dumps(a, sort_keys=True)}" for a in data["addr_info"]}
            else:
                found.add(f"{what} {row}")
    return found

"""What a claim has done and is about to do, on disk before it does it.

One file per claim: a header line and then records, each line JSON, a tab, and a checksum chained
to the line before. A line that was being written when the machine stopped has no newline yet and
is dropped; anything else that does not fit is an error, and an error here changes nothing.
Stdlib only and cheap to import: `status` reads journals too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from manactl.errors import ManactlError, NotRestored, strerror
from manactl.journal import interrupted, shape
from manactl.journal import state_dir as statedir
from manactl.look.text_files import read as read_kernel
from manactl.model.claim import ClaimSummary, NetnsId, Phase
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import ClaimInfo, Note, PortId
from manactl.model.record import SETTLES, Ending, Event, Mode
from manactl.model.uncollected import uncollected
from manactl.model.value import Value

if TYPE_CHECKING:
    from manactl.journal.unconfirmed import Waiting

SCHEMA = "manactl.journal/1"
_FAMILY, _VERSION = SCHEMA.split("/")
_HISTORY_KEEPS = 100
_HISTORY_BYTES = 256 << 20  # a snapshot with a full routing table has some 20 MB
_SUFFIX = ".journal"
_RESERVED = 1 << 16  # bytes: some hundred records
_NOT_A_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # a link, a directory, a socket
_IN_NAME = r"([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])-\d+"
_IN_TURN = re.compile(r"(\d{8,})-(?=\d{8}T)")  # in the history: which was closed after which
_BRIEF = 200  # characters of what is wrong with a journal
_BY_HAND = (
    "its lines are readable JSON: restore the port by hand from the snapshot in the first line, "
    "then move the file out of the directory"
)
_NOT_OURS = (
    "if it is not a journal, move it out of the directory; if it is one that you trust, make it a "
    "regular file of root's with one hard link again (chown root, chmod 600)"
)
_BY_ITS_OWN = "release the port with the manactl that claimed it"
_NAMED_MOST = 10  # functions in a file's name, which has room for no more


def stamp(when: datetime | None = None) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    text = (when or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def read_boot_id(proc: Path = Path("/proc")) -> str:
    return read_kernel(proc / "sys/kernel/random/boot_id")


class JournalError(NotRestored):
    """A journal is corrupt or not ours, so nothing was changed by it."""


class UnbelievableError(JournalError):
    """Every line is as it was written, and what they say together makes no sense here."""


class Content(Value):
    """A journal as read: the header, the records, and how many bytes of the file are good."""

    path: Path
    header: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    size: int
    last_sum: str

    @property
    def ports(self) -> tuple[PortId, ...]:
        """The ports of the claim that are neither released nor accepted yet."""
        settled = {PortId.key_of(r) for r in self.records if r["event"] in SETTLES}
        return tuple(p for p in self.all_ports if p.key not in settled)

    @property
    def all_ports(self) -> tuple[PortId, ...]:
        """The ports of the claim, settled ones included."""
        return _ports(self.header)

    def port_entry(self, port: PortId) -> Mapping[str, Any]:
        """What the header has of a port: its names, and what is done to its pair."""
        return next(one for one in self.header["ports"] if PortId.key_of(one) == port.key)

    @property
    def boot_id(self) -> str:
        return str(self.header["boot_id"])

    @property
    def phase(self) -> Phase:
        """`closed`, else `claimed` when every port that is left is, else `interrupted`."""
        if any(record["event"] == Event.CLOSED for record in self.records):
            return Phase.CLOSED
        phases = {self.phase_of(port) for port in self.ports}
        return Phase.INTERRUPTED if Phase.INTERRUPTED in phases else Phase.CLAIMED

    @property
    def netns(self) -> NetnsId | None:
        """The network namespace it was claimed in; None by a manactl that did not note that."""
        noted = self.header.get("netns")
        return None if noted is None else NetnsId(noted["inode"], noted["cookie"])

    @property
    def ending(self) -> Ending:
        """How a journal without ports is closed: `accepted` when residue was, else `released`."""
        accepted = any(record["event"] == Event.ACCEPTED for record in self.records)
        return Ending.ACCEPTED if accepted else Ending.RELEASED

    @property
    def waiting(self) -> Waiting | None:
        """The confirmation that it waits for; None when it needs none any more."""
        armed = [record for record in self.records if record["event"] == Event.ARMED]
        if not any(record.get("deadline") for record in armed):
            return None
        from manactl.journal import unconfirmed  # noqa: PLC0415 - for few claims

        return unconfirmed.of(self.records)

    @property
    def orphaned(self) -> Note | None:
        """What to know of a claim that ends with its command, when nobody is left to release it."""
        if self.header["mode"] != Mode.EXEC:
            return None
        from manactl.journal import unconfirmed  # noqa: PLC0415 - for few claims

        return unconfirmed.orphaned(self.records)

    @property
    def residue(self) -> tuple[str, ...]:
        """What the last attempt to restore could not; nothing when there was none."""
        found = [record for record in self.records if record["event"] == Event.RESIDUE]
        return tuple(map(str, found[-1].get("lines", ()))) if found else ()

    @property
    def claimed(self) -> bool:
        """Whether the claim was made, whatever came after."""
        return any(record["event"] == Event.CLAIMED for record in self.records)

    def phase_of(self, port: PortId) -> Phase:
        """`claimed`, or `interrupted`: begun, and neither finished nor undone."""
        if not self.claimed or any(r["event"] == Event.UNWINDING for r in self.records):
            return Phase.INTERRUPTED
        everything = [{"pci": port.pci, "port": port.port}]
        releasing = (
            {PortId.key_of(claimed) for claimed in record.get("ports", everything)}
            for record in self.records
            if record["event"] == Event.RELEASING
        )
        begun = any(port.key in ports for ports in releasing)
        return Phase.INTERRUPTED if begun else Phase.CLAIMED

    @property
    def proven(self) -> Mapping[tuple[str, int], bool]:
        """Per port, whether a queue pair proved that its vport was free when claimed."""
        for record in self.records:
            if record["event"] == Event.CLAIMED:
                return {PortId.key_of(p): bool(p["proven"]) for p in record["ports"]}
        return {}


def _ports(header: Mapping[str, Any]) -> tuple[PortId, ...]:
    return tuple(PortId(p["pci"], p["port"], p["permanent_mac"]) for p in header["ports"])


class UnreadableJournal(NamedTuple):
    """A journal that may be open and whose records cannot be relied on.

    `pci` and `ports` are what it is about: by its header where that is whole, else the function by
    the name of the file; None where neither shows it.
    """

    path: Path
    error: JournalError
    pci: frozenset[str] | None = None
    ports: tuple[PortId, ...] = ()

    def concerns(self, pci: str) -> bool:
        """Whether it may hold a claim of this function, which then must not be changed."""
        return self.pci is not None and pci in self.pci


class Claims(NamedTuple):
    """What the journals say is claimed, oldest first, and the journals that cannot be read."""

    claims: list[ClaimSummary]
    unreadable: list[UnreadableJournal]


def list_claims(state_dir: Path | str, boot_id: str | None = None) -> Claims:
    """Every port that a journal says is claimed; nothing without a state directory.

    PermissionError when the directory may not be read (it is root's), JournalError when it cannot.
    """
    boot_id = boot_id or read_boot_id()
    found = Claims([], [])
    for content in _contents(Path(state_dir), boot_id):
        if isinstance(content, UnreadableJournal):
            found.unreadable.append(content)
        elif content.phase is not Phase.CLOSED:
            try:
                with believed(content.path):
                    found.claims.extend(list(_summaries(content, Path(state_dir), boot_id)))
            except JournalError as error:
                pcis = frozenset(port.pci for port in content.ports)
                found.unreadable.append(UnreadableJournal(content.path, error, pcis, content.ports))
    return found


def _summaries(content: Content, state_dir: Path, boot_id: str) -> Iterator[ClaimSummary]:
    header = content.header
    waiting = content.waiting if content.boot_id == boot_id else None
    for port in content.ports:
        then = content.port_entry(port)
        info = ClaimInfo(
            since=datetime.fromisoformat(header["time"]),
            by=dict(header["by"]),
            mode=str(header["mode"]),
            confirm_by=waiting and waiting.confirm_by,
            proven=content.proven.get(port.key, False),
            synthetic=then.get("synthetic"),
        )
        same = content.boot_id == boot_id
        phase = content.phase_of(port)
        more = None if same else interrupted.BEFORE_BOOT
        if same and (unmanaged := interrupted.unmanaged_by(header["plan"].get("steps", ()), port)):
            more = Note("unmanaged", (", ".join(unmanaged),))
        if same and phase is Phase.INTERRUPTED:
            more = interrupted.next_step(header, content.records, port, state_dir)
        waits = waiting is not None and phase is Phase.CLAIMED
        orphaned = content.orphaned if same and phase is Phase.CLAIMED else None
        yield ClaimSummary(
            port,
            info,
            phase,
            same,
            content.path,
            next_step=more,
            netns=content.netns,
            ifindex=then.get("ifindex"),
            upper=then.get("upper"),
            vmbus=then.get("vmbus"),
            upper_altnames=_texts(then, "upper_altnames"),
            upper_ifindex=then.get("upper_ifindex"),
            upper_up=then.get("upper_up"),
            names=names_of(then),
            waits=waiting.note() if waiting and waits else orphaned,
            forsaken=orphaned is not None
            or bool(waiting and waits and waiting.left <= 0 and not waiting.guarded()),
        )


def names_of(then: Mapping[str, Any]) -> tuple[str, ...]:
    """What the netdevs of a port were called that has this entry in a header; both of a pair."""
    own = (str(then[key]) for key in ("netdev", "vf", "upper") if then.get(key))
    more = (*(_texts(then, "altnames") or ()), *(_texts(then, "upper_altnames") or ()))
    return tuple(dict.fromkeys((*own, *more)))


def _texts(then: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    found = then.get(key)
    return None if found is None else tuple(map(str, found))


def finished(state_dir: Path) -> list[Content]:
    """Journals with nothing left to undo, whose release died before it had put them away."""
    return [
        content
        for content in _contents(state_dir, read_boot_id())
        if isinstance(content, Content) and (content.phase is Phase.CLOSED or not content.ports)
    ]


def _contents(state_dir: Path, boot_id: str) -> Iterator[Content | UnreadableJournal]:
    for path in paths(state_dir):
        with contextlib.suppress(FileNotFoundError):  # just put away by another manactl
            try:
                yield read(path)
            except JournalError as error:
                yield _from_header(path, error, boot_id)


def _from_header(path: Path, error: JournalError, boot_id: str) -> Content | UnreadableJournal:
    """What the header of a journal with a damaged end, or of another version, still shows.

    A journal from before the last boot has nothing to undo, whatever its records were.
    """
    header = _read_header(path)
    if header is None:
        names = frozenset(re.findall(_IN_NAME, path.name))
        return UnreadableJournal(path, error, names or None)
    if header.boot_id != boot_id:
        return header
    ports = header.ports
    return UnreadableJournal(path, error, frozenset(port.pci for port in ports), ports)


def _read_header(path: Path) -> Content | None:
    """A journal as it was when only its first line was written; None without a whole one.

    FileNotFoundError when the file is gone.
    """
    try:
        fd = _open(path, os.O_RDONLY)
        try:
            data = _read_all(fd, path)
        finally:
            statedir.close(fd)
        header, total, size = next(_lines(data, path))
        shape.check_header(header)
        content = Content(path, header, (), size, total)
        known = str(header["schema"]).startswith(f"{_FAMILY}/")
    except (*shape.NONSENSE, JournalError):
        return None
    return content if known else None


def paths(state_dir: Path, folder: str = "claims") -> list[Path]:
    """The journals that are not in the history, or those of that folder, oldest first: by the
    moment in their names, and in the history as they were closed."""
    directory = state_dir / folder
    try:
        names = sorted(os.listdir(directory), key=_turn)
    except FileNotFoundError:
        return []
    except PermissionError:
        raise
    except OSError as error:
        raise _unread(directory, error) from error
    return [directory / n for n in names if n.endswith(_SUFFIX) and n[0] != "."]


def salvaged(path: Path, boot_id: str) -> Content | None:
    """A journal from before the last boot that cannot be read, by its header. None for others."""
    try:
        read(path)
    except JournalError as error:
        found = _from_header(path, error, boot_id)
        return found if isinstance(found, Content) else None
    return None


def archive(path: Path) -> None:
    """Move a journal to the history, which stays short.

    There its name begins with a number that goes up, because the moment in it does not when
    somebody sets the clock back.
    """
    history = path.parent.parent / "history"
    history.mkdir(mode=0o700, exist_ok=True)
    before = sorted((n for n in os.listdir(history) if n.endswith(_SUFFIX)), key=_turn)
    turn = _turn(before[-1])[0] + 1 if before else 1
    new = history / f"{turn:08}-{path.name}"
    kept, room = 1, path.lstat().st_size
    path.rename(new)
    # Should the power fail before that is on the disk, it is here again, closed, and is moved again.
    for folder in (history, path.parent):
        with contextlib.suppress(OSError):
            statedir.sync(folder)
    for name in reversed(before):
        with contextlib.suppress(OSError):
            room += os.lstat(history / name).st_size
            kept += 1
            if kept > _HISTORY_KEEPS or room > _HISTORY_BYTES:
                (history / name).unlink()


def _turn(name: str) -> tuple[int, str]:
    """To sort the names of journals by. Those that an older manactl has put away have no number."""
    found = _IN_TURN.match(name)
    return int(found[1]) if found else 0, name


# --- lines ----------------------------------------------------------------------------------


_LARGE = 1 << 16  # bytes, of which OpenSSL's is quicker by more than it takes to load


def _checksum(data: bytes) -> str:
    """The first half of its SHA-256: by the interpreter's own, where it has one, as `random` does.
    `hashlib` loads OpenSSL, which takes as long as a dozen modules of ours."""
    if len(data) <= _LARGE:
        with contextlib.suppress(ImportError):
            if sys.version_info >= (3, 12):
                from _sha2 import sha256 as own  # noqa: PLC0415
            else:
                from _sha256 import sha256 as own  # type: ignore[import-not-found] # noqa: PLC0415
            return str(own(data).hexdigest()[:16])
    from hashlib import sha256  # noqa: PLC0415 - see above

    return sha256(data).hexdigest()[:16]


def _line(record: Mapping[str, Any], before: str) -> tuple[bytes, str]:
    text = json.dumps(record, separators=(",", ":"), sort_keys=True)
    total = _checksum((before + text).encode())
    return f"{text}\t{total}\n".encode(), total


def _lines(data: bytes, path: Path) -> Iterator[tuple[dict[str, Any], str, int]]:
    """Record, checksum and end offset of each whole line."""
    before = ""
    offset = 0
    while (end := data.find(b"\n", offset)) >= 0:
        text, tab, total = data[offset:end].rpartition(b"\t")
        due = _checksum(before.encode() + text)
        if not tab or total != due.encode():
            raise _corrupt(path, f"bad checksum at byte {offset}")
        record = json.loads(text)
        offset, before = end + 1, due
        yield record, due, offset


def _corrupt(path: Path, why: str) -> JournalError:
    return _useless(path, f"is corrupt ({why})")


def _not_trusted(path: Path, why: str) -> JournalError:
    return _useless(path, f"is not trusted ({why})", _NOT_OURS)


def _useless(path: Path, what: str, hint: str = _BY_HAND) -> JournalError:
    return JournalError(
        f"journal {path} {what}; nothing was changed",
        hint=hint,
        code="journal",
    )


@uncollected()
def parse(data: bytes, path: Path) -> Content:
    """Check and read a whole journal. JournalError unless every complete line is right."""
    try:
        lines = list(_lines(data, path))
        if not lines:
            raise _corrupt(path, "no header")
        header = lines[0][0]
        records = tuple(line[0] for line in lines[1:])
        _check_schema(header, path)
        for n, record in enumerate(records, 1):
            if record["n"] != n or not isinstance(record["event"], str):
                raise _corrupt(path, f"record {n} out of order")
        with believed(path):
            shape.check(header, records)
            content = Content(path, header, records, lines[-1][2], lines[-1][1])
            content.proven, content.phase, content.waiting  # noqa: B018 - readable?
    except shape.NONSENSE as error:
        raise _corrupt(path, _brief(error)) from error
    return content


@contextlib.contextmanager
def believed(path: Path) -> Iterator[None]:
    """What takes apart the contents of a journal, before anything is done by them: JournalError
    where they make no sense, whatever the checksums say, or only to a later manactl."""
    try:
        yield
    except shape.NewerError as error:
        raise UnbelievableError(
            f"journal {path} is of another version: this manactl does not know {error}; nothing was "
            "changed",
            hint=_BY_ITS_OWN,
            code="journal",
        ) from error
    except shape.NONSENSE as error:
        raise UnbelievableError(
            f"journal {path} cannot be believed ({_brief(error)}); nothing was changed",
            hint=_BY_HAND,
            code="journal",
        ) from error


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_BRIEF]


def _check_schema(header: Mapping[str, Any], path: Path) -> None:
    family, _, version = str(header["schema"]).partition("/")
    if family != _FAMILY:
        raise _corrupt(path, f"schema {header['schema']!r}")
    if version != _VERSION:
        raise JournalError(
            f"journal {path} has schema {header['schema']}, this manactl knows {SCHEMA}; "
            "nothing was changed",
            hint=_BY_ITS_OWN,
            code="journal",
        )


def read(path: Path) -> Content:
    """Read a journal. It must be an ordinary file of ours that nobody else may write."""
    fd = _open(path, os.O_RDONLY)
    try:
        return parse(_read_all(fd, path), path)
    finally:
        statedir.close(fd)


def _open(path: Path, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (PermissionError, FileNotFoundError):
        raise
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise _not_trusted(path, os.strerror(error.errno or 0)) from error
        raise _unread(path, error) from error
    try:
        why = statedir.not_ours(fd)
    except OSError as error:
        statedir.close(fd)
        raise _unread(path, error) from error
    if why:
        statedir.close(fd)
        raise _not_trusted(path, why)
    return fd


def _read_all(fd: int, path: Path) -> bytes:
    parts = []
    try:
        while part := os.read(fd, 1 << 20):
            parts.append(part)
    except OSError as error:
        raise _unread(path, error) from error
    return b"".join(parts)


def _unread(path: Path, error: OSError) -> JournalError:
    """The journal cannot be read by this process or from this disk; it may itself be intact."""
    return JournalError(
        f"journal {path} could not be read: {strerror(error)}",
        untouched="nothing was changed",
        hint="it may be intact: fix the cause, then try again",
        code="journal",
    )


def _not_removed(path: Path, error: OSError) -> NotRestored:
    """A journal that announces nothing is left."""
    return NotRestored(
        f"nothing was touched, but the journal {path} could not be removed: {strerror(error)}",
        hint="fix the cause, then `manactl recover` closes it",
        code="journal",
    )


# --- writing --------------------------------------------------------------------------------


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class _State(NamedTuple):
    """What is in the file; replaced in a single assignment, so that no signal comes between."""

    records: tuple[Mapping[str, Any], ...]
    size: int
    sum: str


class Journal:
    """A journal open for appending. Every record is on disk when append() returns."""

    def __init__(self, fd: int, content: Content) -> None:
        self._fd = fd
        self.path = content.path
        self.header = content.header
        self._state = _State(content.records, content.size, content.last_sum)
        self._spoiled = False

    @classmethod
    def create(cls, state_dir: Path, header: Mapping[str, Any], ports: Sequence[PortId]) -> Journal:
        """Write the header so that it is there whole or not at all, also after a power cut.

        Refused when it cannot be written: nothing has been touched yet.
        """
        statedir.prepare(state_dir)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        # Every function is named: should the header ever be damaged, they are blocked all the same.
        first = {port.pci: port for port in reversed(ports)}
        names = [
            f"{first[pci].pci}-{first[pci].port}" for pci in dict.fromkeys(p.pci for p in ports)
        ]
        path = state_dir / "claims" / f"{moment}-{'+'.join(names[:_NAMED_MOST])}{_SUFFIX}"
        hidden = path.with_name(f".{path.name}.new")
        line, _ = _line({"schema": SCHEMA, **header}, "")
        content = parse(line, path)
        try:
            statedir.sweep(path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(hidden, flags | os.O_APPEND, 0o600)
            named = False
            try:
                _write_all(fd, line)
                # A disk that fills up later must not keep the rest from being written.
                statedir.reserve(fd, len(line), _RESERVED)
                os.fsync(fd)
                hidden.rename(path)
                named = True
                statedir.sync(path.parent)
                return cls(fd, content)
            except BaseException as error:
                statedir.close(fd)
                try:
                    (path if named else hidden).unlink()
                except OSError as left:
                    if named:  # the other one is no journal, and is swept away later
                        raise _not_removed(path, left) from error
                raise
        except OSError as error:
            raise statedir.unusable(path.parent, error) from error

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open an existing journal, cutting off a torn last line. JournalError when it cannot be
        opened, FileNotFoundError when it is gone."""
        try:
            fd = _open(path, os.O_RDWR | os.O_APPEND)
        except PermissionError as error:  # it could be read a moment ago
            raise _unread(path, error) from error
        try:
            data = _read_all(fd, path)
            content = parse(data, path)
            if content.size < len(data):
                os.ftruncate(fd, content.size)
                os.fsync(fd)
        except BaseException:
            statedir.close(fd)
            raise
        return cls(fd, content)

    @property
    def content(self) -> Content:
        """As a reader would see it now."""
        return Content(self.path, self.header, *self._state)

    def append(self, event: Event, **more: object) -> None:
        """Write one record and wait until it is on disk.

        Whatever is raised, the record is whole in the file and counted, or neither: a signal that
        comes between two system calls must not leave a line that the next one does not follow.
        OSError when it could not be written; once half a line could not be cut off, always.
        """
        if self._spoiled:
            raise OSError(errno.EIO, "an earlier record is half written")
        before = self._state
        record = {"n": len(before.records) + 1, "t": stamp(), "event": event, **more}
        line, total = _line(record, before.sum)
        try:
            _write_all(self._fd, line)
            os.fsync(self._fd)
            self._state = _State((*before.records, record), before.size + len(line), total)
        except BaseException:
            if self._state is before:
                self._cut_off()
            raise

    def _cut_off(self) -> None:
        self._spoiled = True  # until it is known to be undone
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._state.size)
            self._spoiled = False

    def discard(self, error: OSError | None) -> ManactlError | None:
        """Remove a journal that has announced nothing; what to raise when `error` was the reason,
        or when it could not be removed."""
        try:
            self.path.unlink()
            statedir.sync(self.path.parent)
        except OSError as left:
            return _not_removed(self.path, left)
        finally:
            self.close()
        return None if error is None else statedir.unusable(self.path.parent, error)

    def close(self) -> None:
        if self._fd >= 0:
            statedir.close(self._fd)
            self._fd = -1

    def archive(self) -> None:
        """Move a journal whose `closed` record is written to the history."""
        archive(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

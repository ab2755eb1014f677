"""Debian packages for the lab: the mirror, a private apt beside the host's, kernel versions.

The guest is Debian trixie whatever the host is. The mirror is the one the host's own apt uses, so
that nothing has to be configured where apt works: proxies and certificates come along. The private
apt has its own lists, sources and (empty) package database and never touches the host's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .errors import HostLacks, KernelGone, MirrorUnknown, Unreachable

SUITE = "trixie"
SUITES = (SUITE, f"{SUITE}-backports")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
REFRESH_AFTER = 24 * 3600  # seconds; younger package lists are used without asking the mirror
ATTEMPTS = 4

# Names under which Debian's mirrors carry a release; only read when apt has no lists yet.
_DEBIAN_SUITES = {
    *("bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
}
_FIELDS = ("REPO_URI", "RELEASE", "COMPONENT", "ORIGIN", "LABEL", "SOURCESENTRY")
_TARGET_FORMAT = "\t".join(f"$({field})" for field in _FIELDS)
_TRANSIENT = re.compile(
    r"Temporary failure|Could not connect|Connection (?:failed|timed out|refused)|Hash Sum|"
    r"Unable to connect|Could not resolve|unexpected(?:ly)? (?:size|closed)|reset by peer|"
    r"File has unexpected size|Mirror sync|50[0234] |429 |Could not wait|Undetermined Error",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where Debian comes from. `signed_by` is a keyring file, or "" for apt's own trust."""

    uri: str
    signed_by: str

    def source(self, suite: str) -> str:
        option = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {option}{self.uri} {suite} main"


def mirror_of(targets: str, keyring: str) -> Mirror:
    """The Debian mirror in the output of `apt-get indextargets` with _TARGET_FORMAT.

    apt has resolved one-line and deb822 sources alike there. Origin and label come from the
    downloaded Release files (a name that apt does not know stays unreplaced); without lists, as in
    a fresh container, the suite's name has to do.
    """
    best: tuple[int, Mirror] | None = None
    for line in targets.splitlines():
        fields = ["" if f.startswith("$(") else f.strip() for f in line.split("\t")]
        if len(fields) != len(_FIELDS):
            continue
        uri, release, component, origin, label, entry = fields
        rank = _rank(uri, release.rstrip("/"), origin, label)
        if component != "main" or rank is None:
            continue
        if best is None or rank < best[0]:
            trusted = signed_by(uri, entry) or keyring
            best = (rank, Mirror(uri.rstrip("/"), trusted))
    if best is None:
        raise MirrorUnknown(
            "apt's configuration on this host names no Debian mirror (is it Ubuntu?). "
            "Set MANACTL_DEBIAN_MIRROR to one, e.g. http://mirror.example/debian."
        )
    return best[1]


def _rank(uri: str, release: str, origin: str, label: str) -> int | None:
    """How well an index target answers "Debian itself", 0 best; None: it does not."""
    if uri.startswith("cdrom:"):
        return None
    if origin:
        return 0 if (origin, label) == ("Debian", "Debian") else None
    if release not in _DEBIAN_SUITES:
        return None
    return 1 if uri.rstrip("/").endswith("debian") else 2


def signed_by(uri: str, entry: str) -> str:
    """The keyring file that the source `entry` ("file:line", as apt names it) gives for `uri`."""
    file = Path(entry.rpartition(":")[0])
    if not file.is_file():
        return ""
    blocks = re.split(r"\n\s*\n" if file.suffix == ".sources" else r"\n", file.read_text())
    pattern = re.compile(
        r"(?:^Signed-By:\s*|\bsigned-by=)(/[^\s\],]+)", re.MULTILINE | re.IGNORECASE
    )
    for block in blocks:
        if uri.rstrip("/") in block and not block.lstrip().startswith("#"):
            match = pattern.search(block)
            if match:
                return match[1]
    return ""


def mirror() -> Mirror:
    """MANACTL_DEBIAN_MIRROR, or what the host's apt uses for Debian itself."""
    keyring = str(KEYRING) if KEYRING.exists() else ""
    named = os.environ.get("MANACTL_DEBIAN_MIRROR")
    if named:
        return Mirror(named.rstrip("/"), keyring)
    if not shutil.which("apt-get"):
        raise HostLacks("apt-get is not here: the lab is built from Debian packages")
    argv = ["apt-get", "indextargets", "--format", _TARGET_FORMAT, "Created-By: Packages"]
    return mirror_of(_host_apt(argv), keyring)


def _host_apt(argv: list[str]) -> str:
    return subprocess.run(argv, check=False, text=True, capture_output=True).stdout


def network_options(dump: str) -> list[str]:
    """The lines of `apt-config dump` that say how to reach a mirror: proxies, TLS, time-outs.

    The rest of the host's configuration stays out: its hooks would run for our downloads.
    """
    unwanted = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::Changelogs")
    keep = [
        line
        for line in dump.splitlines()
        if line.startswith("Acquire::") and not line.startswith(unwanted)
    ]
    return [line for line in keep if not line.endswith(' "";')]


class Apt:
    """A private apt for amd64 trixie and trixie-backports in the cache directory."""

    def __init__(self, source: Mirror | None = None) -> None:
        self.mirror = source or mirror()
        self.dir = cache.root() / f"apt-{cache.key_of(self.mirror.uri, SUITES)}"
        self._env = dict(os.environ, APT_CONFIG=str(self.dir / "apt.conf"), LC_ALL="C.UTF-8")
        self._stamp = self.dir / "updated"
        self._ready = False

    def network_configuration(self) -> str:
        """apt.conf text: only the host's way to the network."""
        lines = network_options(_host_apt(["apt-config", "dump"]))
        return "\n".join([*lines, 'Acquire::Languages "none";', 'Acquire::Retries "3";'])

    def configuration(self) -> str:
        """apt.conf text: the host's way to the network, our directories."""
        etc, state = self.dir / "etc", self.dir / "state"
        lines = [
            self.network_configuration(),
            f'Dir::Etc "{etc}";',
            f'Dir::Etc::parts "{etc}/apt.conf.d";',
            'Dir::Etc::netrc "/etc/apt/auth.conf";',
            'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
            f'Dir::State "{state}";',
            f'Dir::State::status "{state}/status";',
            f'Dir::Cache "{self.dir}/cache";',
            'APT::Architecture "amd64";',
            'APT::Architectures { "amd64"; };',
            'APT::Sandbox::User "root";',  # no change of user: files stay in our cache directory
            'APT::Install-Recommends "0";',
        ]
        return "\n".join(lines) + "\n"

    def _prepare(self) -> None:
        for name in (
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/trusted.gpg.d",
            "state/lists/partial",
            "cache/archives/partial",
        ):
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        (self.dir / "state/status").touch()
        if not self.mirror.signed_by:  # whatever the host's apt trusts
            trusted = self.dir / "etc/trusted.gpg.d"
            for key in Path("/etc/apt/trusted.gpg.d").glob("*.*"):
                shutil.copy(key, trusted)
        (self.dir / "apt.conf").write_text(self.configuration())
        sources = [self.mirror.source(suite) for suite in SUITES]
        (self.dir / "etc/sources.list").write_text("\n".join(sources) + "\n")

    def refresh(self, *, force: bool = False) -> None:
        """Have package lists no older than a day, or older ones when the mirror is away."""
        if self._ready and not force:
            return
        with cache.locked(self.dir.name):
            age = time.time() - self._stamp.stat().st_mtime if self._stamp.exists() else None
            asked = force or "MANACTL_LAB_REFRESH" in os.environ
            if age is not None and age < (60 if force else REFRESH_AFTER) and not asked:
                self._ready = True
                return
            self._prepare()
            try:
                self._run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"])
            except Unreachable:
                if age is None or force:
                    raise
                cache.say(f"the mirror is away; going on with package lists {age / 3600:.0f} h old")
            else:
                self._stamp.touch()
                shutil.rmtree(self.dir / "answers", ignore_errors=True)
            self._ready = True

    def _run(self, argv: list[str], cwd: Path | None = None) -> str:
        """Run an apt command, again after a transient failure; its stdout."""
        for attempt in range(1, ATTEMPTS + 1):
            done = subprocess.run(
                argv,
                env=self._env,
                cwd=cwd,
                check=False,
                text=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode == 0:
                return done.stdout
            text = (done.stderr or done.stdout).strip()
            if not _TRANSIENT.search(text):
                break
            if attempt < ATTEMPTS:
                cache.say(f"{argv[0]} failed, trying again ({attempt}/{ATTEMPTS - 1})")
                time.sleep(3 * attempt)  # the mirror's recovery, which nothing announces
        raise Unreachable(f"`{' '.join(argv)}` on {self.mirror.uri}:\n{text}")

    def _answer(self, name: str, argv: list[str]) -> str:
        """The output of a query, remembered until the package lists change."""
        self.refresh()
        file = self.dir / "answers" / cache.key_of(name, argv)
        if not file.exists():
            text = self._run(argv)
            file.parent.mkdir(exist_ok=True)
            temp = file.with_suffix(f".{os.getpid()}")
            temp.write_text(text)
            temp.replace(file)
        return file.read_text()

    def closure(self, packages: Iterable[str], suite: str = SUITE) -> list[str]:
        """File names of `packages` and all they depend on, as if nothing were installed."""
        argv = ["apt-get", "-y", "-t", suite, "--print-uris", "install", *packages]
        text = self._answer("closure", argv)
        names = [line.split()[1] for line in text.splitlines() if line.startswith("'")]
        return sorted(names)

    def fetch_closure(self, packages: Iterable[str], suite: str, into: Path) -> list[Path]:
        """Download what `closure` names; apt checks every hash."""
        (into / "partial").mkdir(parents=True, exist_ok=True)
        self.refresh()
        argv = [
            "apt-get",
            "-y",
            "-q",
            "-t",
            suite,
            "-o",
            f"Dir::Cache::archives={into}",
            "--download-only",
            "install",
            *packages,
        ]
        self._retry_stale(argv)
        return sorted(into.glob("*.deb"))

    def fetch(self, packages: Iterable[str], into: Path) -> list[Path]:
        """Download exactly these packages, without what they depend on."""
        into.mkdir(parents=True, exist_ok=True)
        self.refresh()
        self._retry_stale(["apt-get", "-q", "download", *packages], cwd=into)
        return sorted(into.glob("*.deb"))

    def _retry_stale(self, argv: list[str], cwd: Path | None = None) -> None:
        """Lists of yesterday may name files that the mirror has replaced since."""
        try:
            self._run(argv, cwd)
        except Unreachable:
            self.refresh(force=True)
            self._run(argv, cwd)

    def cloud_kernels(self) -> dict[str, list[str]]:
        """Upstream version -> the packages that make up that cloud kernel.

        Up to 6.18 linux-image has it all; later vmlinuz is in linux-binary, and from 7.2 the
        modules are in linux-modules and their indexes in linux-base.
        """
        text = self._answer("kernels", ["apt-cache", "pkgnames", "linux-"])
        found: dict[str, list[str]] = {}
        part = re.compile(r"linux-(?:image|binary|modules|base)-([\d.]+)\+deb\d+-cloud-amd64")
        for name in sorted(text.split()):
            if match := part.fullmatch(name):
                found.setdefault(match[1], []).append(name)
        return {v: names for v, names in found.items() if _has_vmlinuz(names)}

    def kernel_packages(self, prefix: str) -> tuple[str, list[str]]:
        """(version, packages) of the newest cloud kernel whose version begins with `prefix`."""
        kernels = self.cloud_kernels()
        version = newest(prefix, kernels)
        if version is None:
            with contextlib.suppress(Unreachable):  # then the lists of the day have to do
                self.refresh(force=True)
            kernels = self.cloud_kernels()
            version = newest(prefix, kernels)
        if version is None:
            raise KernelGone(prefix, sorted(kernels, key=version_key), self.mirror.uri)
        return version, kernels[version]

    def has(self, package: str) -> bool:
        """Whether the mirror has a package of exactly this name."""
        return package in self._answer("headers", ["apt-cache", "pkgnames", package]).split()

    def versions(self, packages: Iterable[str]) -> list[str]:
        """`name=version` of each package's candidate, for keys."""
        text = self._answer("policy", ["apt-cache", "policy", *packages])
        names = re.findall(r"^(\S+):$", text, re.MULTILINE)
        candidates = re.findall(r"^  Candidate: (\S+)$", text, re.MULTILINE)
        return [f"{n}={v}" for n, v in zip(names, candidates, strict=True)]


def _has_vmlinuz(names: list[str]) -> bool:
    return any(name.startswith(("linux-image-", "linux-binary-")) for name in names)


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def newest(prefix: str, versions: Iterable[str]) -> str | None:
    """The newest of `versions` that is `prefix` or below it: "7" takes 7.3.4, never 70.1."""
    fits = [v for v in versions if v == prefix or v.startswith(prefix.rstrip(".") + ".")]
    return max(fits, key=version_key, default=None)


def unpack(deb: Path, into: Path) -> None:
    """Unpack a .deb's files, without its scripts."""
    subprocess.run(["dpkg-deb", "-x", deb, into], check=True)

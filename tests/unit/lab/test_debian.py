"""The mirror comes from apt's own account of its sources, and never from a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import debian
from tests.lab.debian import Mirror, mirror_of, network_options, newest, signed_by
from tests.lab.errors import MirrorUnknown

KEYRING = "/keys/debian.gpg"


def target(
    uri: str, release: str, *, component: str = "main", origin: str = "Debian",
    label: str = "Debian", entry: str = "/etc/apt/sources.list:1",
) -> str:  # fmt: skip
    return "\t".join((uri, release, component, origin, label, entry))


def test_the_mirror_of_a_usual_debian_host() -> None:
    text = "\n".join(
        [
            target("http://security.example/debian-security/", "bookworm-security",
                   label="Debian-Security"),
            target("http://mirror.example/debian/", "bookworm"),
            target("http://mirror.example/debian/", "bookworm-updates"),
        ]
    )  # fmt: skip
    assert mirror_of(text, KEYRING) == Mirror("http://mirror.example/debian", KEYRING)


def test_other_peoples_repositories_are_passed_over() -> None:
    text = "\n".join(
        [
            target("https://vendor.example/apt/", "bookworm", origin="Vendor", label="Vendor"),
            target("http://b.example/debian/", "bookworm-backports", label="Debian Backports"),
            target("http://mirror.example/debian/", "bookworm", component="contrib"),
            target("cdrom:[Debian 12]/", "bookworm"),
            target("http://mirror.example/deb/", "bookworm"),
        ]
    )
    assert mirror_of(text, KEYRING).uri == "http://mirror.example/deb"


@pytest.mark.parametrize("unknown", ["", "$(ORIGIN)"])
def test_without_lists_the_suite_names_debian(unknown: str) -> None:
    """apt-get update never ran, as in a fresh container: no Release file says whose it is."""
    text = "\n".join(
        target(uri, release, origin=unknown, label=unknown)
        for uri, release in (
            ("http://vendor.example/linux", "bookworm"),
            ("http://mirror.example/debian-security", "bookworm-security"),
            ("http://mirror.example/debian", "bookworm"),
        )
    )
    assert mirror_of(text, KEYRING).uri == "http://mirror.example/debian"


@pytest.mark.parametrize(
    "text",
    [
        "",
        target("http://mirror.example/ubuntu/", "noble", origin="Ubuntu", label="Ubuntu"),
        target("http://mirror.example/ubuntu/", "noble", origin="", label=""),
        target("http://b.example/debian/", "bookworm-backports", label="Debian Backports"),
    ],
)
def test_where_there_is_no_debian_it_says_so_and_stops(text: str) -> None:
    with pytest.raises(MirrorUnknown, match="MANACTL_DEBIAN_MIRROR"):
        mirror_of(text, KEYRING)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "debian.sources",
            "# mirror\nTypes: deb\nURIs: http://other.example/debian\nSigned-By: /keys/other.gpg\n\n"
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
            "Signed-By: /keys/own.gpg\n",
            "/keys/own.gpg",
        ),
        (
            "sources.list",
            "# deb [signed-by=/keys/old.gpg] http://mirror.example/debian bookworm main\n"
            "deb [arch=amd64 signed-by=/keys/own.gpg] http://mirror.example/debian bookworm main\n",
            "/keys/own.gpg",
        ),
        ("sources.list", "deb http://mirror.example/debian bookworm main\n", ""),
        (
            "debian.sources",
            "URIs: http://mirror.example/debian\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n",
            "",
        ),
    ],
)
def test_the_keyring_of_the_source(tmp_path: Path, name: str, text: str, expected: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert signed_by("http://mirror.example/debian/", f"{file}:1") == expected
    entry = target("http://mirror.example/debian/", "bookworm", entry=f"{file}:1")
    assert mirror_of(entry, KEYRING).signed_by == (expected or KEYRING)


def test_the_environment_outvotes_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANACTL_DEBIAN_MIRROR", "http://named.example/debian/")
    assert debian.mirror().uri == "http://named.example/debian"


def test_only_the_way_to_the_network_is_taken_over() -> None:
    dump = """APT::Update::Post-Invoke:: "rm -f /somewhere";
Acquire "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::CaInfo "/etc/ssl/own.pem";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Languages "de";
DPkg::Post-Invoke:: "something";
"""
    assert network_options(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::CaInfo "/etc/ssl/own.pem";',
    ]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("6.12", "6.12.107"), ("7", "7.10.1"), ("7.2", "7.2.12"), ("6.1", "6.1.9"), ("8", None)],
)
def test_a_prefix_takes_the_newest_of_its_own(prefix: str, expected: str | None) -> None:
    versions = ["6.1.9", "6.12.94", "6.12.107", "7.2.9", "7.2.12", "7.10.1", "70.1.1"]
    assert newest(prefix, versions) == expected

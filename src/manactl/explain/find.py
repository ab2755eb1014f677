"""From words to topics. Pure."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from manactl.explain import (
    dpdk,
    eal,
    errnos,
    guards,
    kernel,
    mana_function,
    mana_ib,
    mana_port,
    net_mana,
    net_netvsc,
    netvsc,
    ours,
    rdma,
    states,
    verbs,
)
from manactl.explain.topic import Kind, Topic, anchor, pattern

TOPICS: tuple[Topic, ...] = (
    *dpdk.TOPICS,
    *net_mana.TOPICS,
    *net_netvsc.TOPICS,
    *eal.TOPICS,
    *verbs.TOPICS,
    *kernel.TOPICS,
    *mana_port.TOPICS,
    *mana_function.TOPICS,
    *mana_ib.TOPICS,
    *rdma.TOPICS,
    *netvsc.TOPICS,
    *errnos.TOPICS,
    *ours.TOPICS,
    *guards.TOPICS,
    *states.TOPICS,
)
BY_NAME = {topic.name.lower(): topic for topic in TOPICS}

_NEAR = 5
_EXIT = re.compile(r"exit(?:ed)?(?: with)?(?: code| status)?[ :=]*(\d+)|rc[ :=]+(\d+)", re.I)
_ERRNO = re.compile(r"(?:errno|error|err|ret)[ :=]+-?(\d{1,3})\b", re.I)
_MINUS = re.compile(r"(?<![\w.:-])-(\d{1,3})(?![\w.:-])|(?<=[:=])-(\d{1,3})(?![\w.:-])")
_SYMBOL = re.compile(r"\bE[A-Z]{3,}\b")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_QUOTED = re.compile(r"^(['\"`]{1,3})(.*)\1$")
_DULL = frozenset(
    re.split(" ", "the an of to is it in on and or for not no this that with by port mana has was")
)


# Words that add nothing to a number, and those of the drivers and calls whose numbers are meant.
_PLAIN = frozenset(
    re.split(" ", "e error err errno ret rc failed fail failure with code oserror exit exited "
                  "exception return returned value result got was is of the from on")
)  # fmt: skip
_NETDEV = re.compile(r"(?:eth|en|bond|br|vlan)[a-z0-9]*\d[a-z0-9]*")
_OURS = re.compile(
    r"\b(?:mana\w*|hv_netvsc|vport\w*|ib_uverbs|uverbs\w*|libibverbs|ibv_\w+|create_(?:qp|cq|wq)|"
    r"raw[ _-]?(?:qp|packet)\w*|queue pairs?|\w*qps?|verbs|librte\w*|dpdk\w*|testpmd|rtnetlink answers|netlink error)\b",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Found:
    """Topics that fit, the errno in the text, and, when none fits, the nearest."""

    topics: tuple[Topic, ...]
    errno: int | None = None
    nearest: tuple[Topic, ...] = ()


def find(text: str) -> Found:
    """What `text` is about: a name, a number, or a message with anything around it.

    Words weigh more than the number behind them: what an errno means with MANA is told only where
    the text is about MANA, or has no words but the number's own.
    """
    text = _QUOTED.sub(r"\2", " ".join(_ANSI.sub("", text).split()))
    if topics := tuple(_exact(text)):
        return Found(topics, next((t.errno for t in topics if t.errno is not None), None))
    number = _errno_in(text)
    topics = _forms_in(text)
    if not any(topic.kind is Kind.MESSAGE for topic in topics):
        topics = (*_by_prefix(text), *topics)
    if not topics and (code := _EXIT.search(text)):
        topics = tuple(t for t in TOPICS if t.exit_code == int(code[1] or code[2]))
    known = tuple(topic for topic in errnos.TOPICS if topic.errno == number)
    worded = tuple(topic for topic in topics if topic.kind is not Kind.ERRNO)
    explained = number is not None and any(_explains(topic, number) for topic in worded)
    if explained or not (_OURS.search(text) or _bare(text, known)):
        topics = worded
    else:
        topics = tuple(dict.fromkeys((*topics, *known)))
    return Found(topics, number, () if topics else tuple(_nearest(text)))


def _explains(topic: Topic, number: int) -> bool:
    """Whether a topic says what an errno means: as its own, in a table, or in its form."""
    own = topic.errno == number or number in topic.by_errno
    words = os.strerror(number).lower()
    return own or any(words in form.lower() for form in topic.forms)


def _bare(text: str, known: Iterable[Topic]) -> bool:
    """Whether the text has no words but those of a number, and perhaps the name of a netdev."""
    own = {word for topic in known for name in (topic.name, *topic.forms) for word in _all(name)}
    return all(w in own or w in _PLAIN or _NETDEV.fullmatch(w) for w in _all(text))


def _all(text: str) -> list[str]:
    return re.findall(r"[a-z][a-z0-9]*", text.lower())


def _exact(word: str) -> Iterator[Topic]:
    """A topic's own name, or a bare number: an exit code of ours and an errno may share it."""
    if (topic := BY_NAME.get(word.lower().lstrip("-"))) is not None:
        yield topic
    if re.fullmatch(r"-?\d{1,3}", word):
        if not word.startswith("-"):
            yield from (t for t in TOPICS if t.exit_code == int(word))
        yield from (t for t in TOPICS if t.errno == abs(int(word)))


def _errno_in(text: str) -> int | None:
    names = [BY_NAME.get(word.lower()) for word in _SYMBOL.findall(text)]
    found = [topic.errno for topic in names if topic is not None and topic.errno is not None]
    found += [int(match[1] or match[2]) for match in _MINUS.finditer(text)]
    found += [int(match[1]) for match in _ERRNO.finditer(text)]
    low = text.lower()
    found += [
        topic.errno
        for topic in errnos.TOPICS
        if topic.errno is not None and any(form.lower() in low for form in topic.forms)
    ]
    return found[0] if found else None


@functools.cache
def _anchors() -> tuple[tuple[str, str, Topic], ...]:
    return tuple((anchor(form), form, topic) for topic in TOPICS for form in topic.forms)


def _forms_in(text: str) -> tuple[Topic, ...]:
    """The topics whose forms occur, in the order of the text; of two at one place the longer.

    A pattern is made only of a form whose anchor is in the text: nearly all are not.
    """
    low = text.lower()
    hits = [
        (*hit.span(), topic)
        for part, form, topic in _anchors()
        if part in low and (hit := pattern(form).search(text))
    ]
    outer = [
        (start, topic)
        for start, end, topic in hits
        if not any(
            begin <= start and end <= stop and (begin, stop) != (start, end)
            for begin, stop, _ in hits
        )
    ]
    return tuple(dict.fromkeys(topic for _, topic in sorted(outer, key=lambda place: place[0])))


def _by_prefix(text: str) -> tuple[Topic, ...]:
    """The topic of the program that begins its lines so; a timestamp may stand before it."""
    words = text.lower().split(" ")
    return tuple(t for t in TOPICS if any(word.startswith(t.prefixes) for word in words[:4]))


def _words(text: str) -> set[str]:
    words = re.findall(r"[a-z][a-z0-9]+", text.lower())
    return {word.removesuffix("s") for word in words if word not in _DULL}


def _vocabulary(topic: Topic) -> set[str]:
    return _words(" ".join((topic.name, topic.title, *topic.forms)))


def _nearest(text: str) -> Iterable[Topic]:
    """Names spelled like `text`; of several words topics that share them, rare ones counting more."""
    alike = difflib.get_close_matches(text.lower(), BY_NAME, n=_NEAR, cutoff=0.7)
    if alike and " " not in text:
        return [BY_NAME[name] for name in alike]
    wanted = _words(text)
    vocabularies = {topic.name: _vocabulary(topic) for topic in TOPICS}
    common = {word: sum(word in v for v in vocabularies.values()) for word in wanted}
    score = {
        topic.name: sum(1 / common[word] for word in wanted & vocabularies[topic.name])
        for topic in TOPICS
    }
    ranked = sorted((t for t in TOPICS if score[t.name] > 0), key=lambda t: -score[t.name])
    return list(dict.fromkeys([*(BY_NAME[name] for name in alike), *ranked]))[:_NEAR]


def listed() -> Iterator[tuple[Kind, list[Topic]]]:
    """Every topic, by kind."""
    for kind in Kind:
        yield kind, [topic for topic in TOPICS if topic.kind is kind]

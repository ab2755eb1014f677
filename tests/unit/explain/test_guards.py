"""The topics of guards: one for each, and what can be done about its refusal."""

from __future__ import annotations

import pytest

from manactl.decide.guards import refusals
from manactl.decide.refusal import Source, Unread
from manactl.explain import guards
from manactl.explain.topic import Kind, Topic
from manactl.netstate.surroundings import Tracking
from tests.unit.decide.scene import STATUS, around
from tests.unit.decide.test_codes import BY_ALLOW, BY_CONFIRM, BY_NOTHING
from tests.unit.wording import wording

TOPICS = {topic.name: topic for topic in guards.TOPICS}
NEVER = [code for code in BY_NOTHING if code in TOPICS]


def waivers(topic: Topic) -> list[str]:
    return [step.command for step in topic.remedy if step.command and "--allow" in step.command]


def test_every_guard_has_one_topic() -> None:
    assert sorted(TOPICS) == sorted(BY_NOTHING[:3] + BY_CONFIRM + BY_ALLOW)
    assert len(guards.TOPICS) == len(TOPICS)
    assert {topic.kind for topic in guards.TOPICS} == {Kind.GUARD}


@pytest.mark.parametrize("code", BY_ALLOW)
def test_a_waiver_is_the_last_remedy_of_a_loss(code: str) -> None:
    topic = TOPICS[code]
    assert waivers(topic) == [f"manactl claim --raw-qp PORT --allow {code}"]
    assert topic.remedy[-1].command == waivers(topic)[0]
    assert "waived" not in topic.means


@pytest.mark.parametrize("code", BY_CONFIRM + NEVER)
def test_where_there_is_no_waiver_the_topic_says_so(code: str) -> None:
    topic = TOPICS[code]
    assert waivers(topic) == []
    with wording:
        assert "waived" in topic.means
        assert ("-- COMMAND" in topic.means) is (code in BY_CONFIRM)
    assert topic.remedy


def test_what_asks_connection_tracking_says_how_to_have_it_read() -> None:
    asking = {
        refusal.code
        for refusal in refusals(STATUS, around(tracking=Tracking.NO_MARKS))
        if refusal.facts == Unread(Source.TRACKING)
    }
    assert asking
    for code in asking:
        commands = [step.command for step in TOPICS[code].remedy]
        assert "modprobe nf_conntrack_netlink" in commands


@pytest.mark.parametrize("topic", guards.TOPICS, ids=list(TOPICS))
def test_a_topic_is_found_by_the_forms_in_which_its_code_is_met(topic: Topic) -> None:
    assert {f"{topic.name}:", f"--allow {topic.name}"} <= set(topic.forms)
    assert topic.title
    assert topic.origin
    assert topic.check
    assert topic.means.endswith(".")

"""Which refusals stand, whatever `--allow` lists, and the failure that they end in. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from manactl.decide import refusal_words
from manactl.decide.codes import Code
from manactl.decide.refusal import Refusal
from manactl.errors import ManactlError
from manactl.model.port import Evidence

# Which failure it is when several refuse: the operator can do least about the first of these.
_WORST = (Code.UNSUPPORTED, Code.HOLDER, Code.DENIED, Code.IN_TRANSITION)


def stands(refusal: Refusal, allow: Collection[str]) -> bool:
    """Whether it is not waived."""
    return refusal.code not in allow or refusal.bar is not None


def standing(found: Iterable[Refusal], allow: Collection[str]) -> list[Refusal]:
    """Those that are not waived."""
    return [refusal for refusal in found if stands(refusal, allow)]


def refused(hard: Sequence[Refusal], allow: Collection[str] = ()) -> ManactlError:
    """The failure that lists every refusal with what can be done about it.

    Its code is a guard's where that one alone refuses, once.
    """
    codes = {refusal.code for refusal in hard}
    worst = next((code for code in _WORST if code in codes), hard[0].code)
    return worst.error(
        refusal_words.report(hard, allow),
        hint=refusal_words.hints(hard),
        evidence=[piece for refusal in hard for piece in _evidence(refusal)],
        code=worst if len(hard) == 1 or not worst.is_guard else None,
    )


def _evidence(refusal: Refusal) -> Iterable[Evidence]:
    """A guard's refusal as one piece of evidence, any other's as what was read."""
    if refusal.code.is_guard:
        return [Evidence("guard", refusal.code, refusal_words.to_json(refusal))]
    return refusal_words.evidence(refusal)

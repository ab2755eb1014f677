"""A plan for people: its steps, and what they mean."""

from __future__ import annotations

from manactl.act.plan import KeepState, Plan, Step, tally

_TITLE, _HYPOTHETICAL = "Plan:", "Plan, were it not refused:"


def lines(plan: Plan) -> list[str]:
    """Everything: the steps, what stops, what the kernel drops, what comes back."""
    undone = plan.verb != "claim"
    steps = [step for step in plan.steps if step.undoes or not undone]
    words = [_undo(step) if undone else step.describe() for step in steps]
    found = [_HYPOTHETICAL if plan.refusals else _TITLE] if words else []
    found += [f"  {number}. {text}" for number, text in enumerate(words, 1)]
    for heading, items in (
        ("Stops:", plan.stops),
        ("The kernel drops:", plan.drops),
        ("Restored:" if undone else "Release restores:", plan.restores),
        ("Cannot be restored:", plan.lost),
        ("Notes:", plan.notes),
    ):
        if items:
            found += [heading, *(f"  {item}" for item in items)]
    return found


def _undo(step: Step) -> str:
    """What undoing a step does."""
    if isinstance(step, KeepState):
        return f"{step.undo_title} ({tally(step.state)})"
    return step.undo_title

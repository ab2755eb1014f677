"""Changes things: plans, steps, and the transitions that journal each of them first."""

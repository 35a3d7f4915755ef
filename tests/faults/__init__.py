"""Faults, each with what became of every input counted; `docs/reliability.md` is written from what they find."""

"""Faults as data: what can go wrong (catalogue), when it does (schedule), and what was seen to happen (engine)."""

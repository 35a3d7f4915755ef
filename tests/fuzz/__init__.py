"""Hostile packets: seeds, what is done to them, and the run that judges what becomes of them."""

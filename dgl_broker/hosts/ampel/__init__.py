"""AMPEL: the filter's score as the result of a T2 unit, and as a T0 filter. `docs/hosts/ampel.md` says how to use them.

One class a module, named alike, as AMPEL looks units up.
"""

"""A replay judged: distributions, completeness, purity, nights, refusals, the best candidates, and against another replay."""

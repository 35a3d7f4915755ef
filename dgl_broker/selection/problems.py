"""What is wrong with a file of ours, gathered so that all of it is said at once."""

import math
from difflib import get_close_matches

from dgl_broker.errors import ConfigError
from dgl_broker.yaml_reader import MAX_INTEGER


class Problems(list):
    """Everything wrong with a file, each with its key, what was found and what was expected."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def add(self, key, found, expected):
        """One problem more."""
        self.append(f"{self.source}: {key} {found}, expected {expected}")

    def unknown_key(self, key, name, known):
        """A key that nobody reads, with the nearest that somebody does."""
        near = get_close_matches(str(name), known, 1, 0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        where = f"{key}.{name}" if key else str(name)
        self.append(f"{self.source}: unknown key {where!r}; {hint}")

    def raise_any(self):
        """Raises ConfigError with all of them, if there are any."""
        if self:
            raise ConfigError("\n".join(self))


def check_number(value, low, high, problems, key, unit=""):
    """Whether `value` is a finite number from low to high; if not, a problem is added."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and isinstance(value, int) and abs(value) > MAX_INTEGER:
        # The reader of files takes none such: a filter that tuning wrote with one could not be read again.
        problems.add(key, f"an integer of {value.bit_length()} bits", "a number of at most 64 bits")
        return False
    number = number and math.isfinite(value)
    if number and low <= value <= high:
        return True
    if math.isinf(low) and math.isinf(high):
        expected = "a finite number"
    elif math.isinf(high):
        expected = f"at least {low:g}"
    else:
        expected = f"{low:g} to {high:g}"
    problems.add(key, value if number else repr(value), f"{expected} {unit}".rstrip())
    return False

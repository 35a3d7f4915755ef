"""Bytes that patterns read, and how far they are read."""

NUMBER_BYTES = 10  # a writer puts the longest number into these


class Doubt(Exception):
    """Bytes that are not plainly what the schema says."""


class Source:
    """Bytes, and how far they are read."""

    __slots__ = ("data", "at", "stop", "rows", "text")

    def __init__(self, data, at, stop, rows, text):
        self.data, self.at, self.stop, self.rows, self.text = data, at, stop, rows, text

    def match(self, compiled):
        """The groups of a pattern, which must match here."""
        found = compiled.match(self.data, self.at, self.stop)
        if found is None:
            raise Doubt
        self.at = found.end()
        return found.groups()

    def number(self):
        """A zigzag base-128 number."""
        data, at = self.data, self.at
        end = min(self.stop, at + NUMBER_BYTES)
        while at < end and data[at] >= 0x80:
            at += 1
        if at >= end:
            raise Doubt
        found = number_of(data[self.at : at + 1])
        self.at = at + 1
        return found

    def sized(self):
        """Bytes behind their own length."""
        size = self.number()
        start, self.at = self.at, self.at + size
        if size < 0 or self.at > self.stop:
            raise Doubt
        return self.data[start : self.at]

    def holds_value(self, null):
        """Whether a union of null with one other type holds the other; its tag is read."""
        tag = self.number()
        if tag not in (0, 1):
            raise Doubt
        return tag != null


def number_of(data):
    """The whole number that base-128 bytes stand for."""
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * place)
    if value >= 2**64:
        raise Doubt
    return (value >> 1) ^ -(value & 1)


def text_of(data, most):
    """The text of bytes that begin with their length, at most `most` bytes long."""
    content = data[1:] if data[0] < 0x80 else data[2:]
    if len(content) > most:
        raise Doubt
    return content.decode()

"""A packet's record without what no score needs of its stamps."""

from dgl_broker.stamps import MAX_INFLATED, primary_alone

SCIENCE = "cutoutScience"
STAMPS = ("cutoutTemplate", "cutoutDifference")  # in both surveys


def slim_record(record, science=False, max_stamp_bytes=MAX_INFLATED):
    """A record whose scores are those of the one given.

    Of a stamp the primary image stays: LSST's bring a variance and a PSF behind it, four times its size. The stamp of the
    science image goes: alert bundles do not read it.

    Parameters
    ----------
    record : dict
        As `wire.Packet` has it.
    science : bool
        Keep that stamp too: paper bundles read it. Where it is a packet's only stamp it is kept all the same, since why an
        alert is refused depends on there being one.
    max_stamp_bytes : int
        As `wire.Limits.stamp_bytes`: a stamp that is refused for its size is to be refused still.
    """
    found = {name: _content(record.get(name)) for name in (*STAMPS, SCIENCE)}
    if not science and (found[STAMPS[0]] or found[STAMPS[1]]):
        record = {**record, SCIENCE: None} if SCIENCE in record else record
        del found[SCIENCE]
    out = dict(record)
    for name, content in found.items():
        if content:
            short = primary_alone(content, max_stamp_bytes)
            out[name] = {**record[name], "stampData": short} if isinstance(record[name], dict) else short
    return out


def _content(stamp):
    """The bytes of a stamp, which ZTF puts into a record of its own; None where there is none."""
    return stamp.get("stampData") if isinstance(stamp, dict) else stamp

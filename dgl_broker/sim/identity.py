"""Numbers of simulated things: unique 64-bit ids from (seed, index, which), mixed one to one so that they tell nothing."""

_BITS = 62
_MASK = (1 << _BITS) - 1
_ODD = 0x9E3779B97F4A7C15 & _MASK | 1
INDEX_LIMIT = 1 << 26
ITEM_LIMIT = 1 << 21


def _mix(value):
    """A bijection of 62-bit numbers: odd multiplications and shifts, each of which can be undone."""
    value = value * _ODD & _MASK
    value ^= value >> 31
    value = value * 0x2545F4914F6CDD1D & _MASK
    return value ^ value >> 29


def unique_id(seed, index, item):
    """A positive 64-bit id above 2^62 (so beyond 2^53), one for each (seed, index, item).

    Parameters
    ----------
    seed : int
        Its low 15 bits enter: ids of runs whose seeds agree in these could meet.
    index : int
        System, below 2^26.
    item : int
        What of the system, below 2^21.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if not (0 <= index < INDEX_LIMIT and 0 <= item < ITEM_LIMIT):
        raise ValueError(f"system {index}, item {item}: expected below {INDEX_LIMIT} and {ITEM_LIMIT}")
    packed = ((seed & 0x7FFF) << 47) | (index << 21) | item
    return (1 << _BITS) | _mix(packed)


def ztf_object_name(seed, index, number, year):
    """A name as ZTF gives them, `ZTF24abcdefg`: seven letters that are unique within a seed for index < 2^26, number < 2^6."""
    value = ((index << 6 | number) * 2_654_435_761 + seed * 40_503) % 26**7  # coprime to 26: one to one
    letters = ""
    for _ in range(7):
        value, digit = divmod(value, 26)
        letters = chr(97 + digit) + letters
    return f"ZTF{year % 100:02d}{letters}"


def sky_place(ra, dec, east_arcsec, north_arcsec):
    """ra, dec [deg] of tangent-plane offsets from a centre (gnomonic projection); floats or arrays."""
    import numpy as np

    xi, eta = np.deg2rad(np.asarray(east_arcsec) / 3600.0), np.deg2rad(np.asarray(north_arcsec) / 3600.0)
    dec0 = np.deg2rad(dec)
    down = np.cos(dec0) - eta * np.sin(dec0)
    out_ra = ra + np.rad2deg(np.arctan2(xi, down))
    out_dec = np.rad2deg(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, down)))
    return out_ra % 360.0, out_dec

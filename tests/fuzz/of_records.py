"""Records whose values lie: numbers that are none, ids at the ends of int64, texts, histories, stamps.

Each takes (rng, record) of a hand-made seed, a copy that it may change, and says what it did; the types of the schema hold.
"""

import math

import packets as made

from fuzz import of_stamps
from fuzz.forms import SCHEMA
from fuzz.seeds import STAMPS

INT64 = (0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 10**18)
INT32 = (0, -1, 2**31 - 1, -(2**31), 4, 127, -999)
DOUBLES = (
    math.nan, math.inf, -math.inf, 5e-324, -5e-324, 2.2e-308, 1e308, -1e308, 0.0, -0.0, 1e-45, 3.4e38, -999.0, -99999.0, 1e15,
    0.5,
)  # fmt: skip
FLOATS = tuple(x for x in DOUBLES if not 3.4e38 < abs(x) < math.inf)
TEXTS = ("", "\0", "t", "f", "g", "y", "gg", "-1", "nan", "\n", "\N{GREEK SMALL LETTER ALPHA}", "\U0001f4a5" * 20)
TEXTS += ("x" * 4096, "x" * 5000)
KINDS = {"long": INT64, "int": INT32, "double": DOUBLES, "float": FLOATS, "string": TEXTS, "boolean": (True, False)}
TRIGGER = {"lsst": "diaSource", "ztf": "candidate"}
HISTORIES = {"lsst": ("prvDiaSources", "prvDiaForcedSources"), "ztf": ("prv_candidates", "fp_hists")}


def _kind(types, name):
    """The primitive that a field may hold (None for what is none), and whether it may be null."""
    kind, nullable = types[name], isinstance(types[name], list)
    kind = kind[1] if nullable else kind
    return kind if isinstance(kind, str) and kind in KINDS else None, nullable


def _odd(rng, kind, nullable):
    return None if nullable and rng.random() < 0.2 else rng.choice(KINDS[kind])


def _types(schema):
    return {field["name"]: field["type"] for field in schema["fields"]}


def _change(rng, row, types, share):
    """Odd values for some of a row's fields, one at least."""
    names = [name for name in row if _kind(types, name)[0]]
    chosen = [name for name in names if rng.random() < share] or [rng.choice(names)]
    row.update({name: _odd(rng, *_kind(types, name)) for name in chosen})


def one_value(rng, survey, record):
    """One field of the trigger."""
    _change(rng, record[TRIGGER[survey]], _types(made.field_type(SCHEMA[survey], TRIGGER[survey])), 0.0)


def some_values(rng, survey, record):
    """Several fields of the trigger."""
    _change(rng, record[TRIGGER[survey]], _types(made.field_type(SCHEMA[survey], TRIGGER[survey])), rng.choice((0.1, 0.3)))


def one_odd_number_everywhere(rng, survey, record):
    """Every number of the trigger and of the histories that is a float is the same odd one."""
    odd = rng.choice(FLOATS)
    rows = [(TRIGGER[survey], [record[TRIGGER[survey]]])] + [(name, record[name] or []) for name in HISTORIES[survey]]
    spare = rng.choice(((), ("ra", "dec", "jd", "midpointMjdTai", "psfFlux", "psfFluxErr", "magpsf", "sigmapsf")))
    for name, found in rows:
        types = _types(made.field_type(SCHEMA[survey], name)) if name != "prvDiaSources" else _types(_source())
        for row in found:
            row.update({k: odd for k in row if _kind(types, k)[0] in ("double", "float") and k not in spare})


def _source():
    return made.field_type(made.LSST_SCHEMA, "diaSource")


def ids(rng, survey, record):
    """Ids at the ends of int64, zero, or different in their two places."""
    trigger, name = record[TRIGGER[survey]], {"lsst": "diaSourceId", "ztf": "candid"}[survey]
    trigger[name] = rng.choice(INT64)
    if rng.random() < 0.7:
        record[name] = rng.choice((trigger[name], rng.choice(INT64)))
    if survey == "lsst":
        trigger["diaObjectId"], trigger["ssObjectId"] = _odd(rng, "long", True), _odd(rng, "long", True)
        if record["diaObject"]:
            record["diaObject"]["diaObjectId"] = rng.choice(INT64)
    else:
        record["objectId"] = rng.choice(TEXTS)


def top_values(rng, survey, record):
    """Fields beside the trigger: versions, names, counts of the object."""
    types = _types(SCHEMA[survey])
    names = [name for name in record if _kind(types, name)[0]]
    record.update({name: _odd(rng, *_kind(types, name)) for name in names if rng.random() < 0.5})
    if survey == "lsst" and record["diaObject"]:
        _change(rng, record["diaObject"], _types(made.field_type(SCHEMA["lsst"], "diaObject")), 0.4)


def history_values(rng, survey, record):
    """Odd values in the histories."""
    name = rng.choice(HISTORIES[survey])
    types = _types(_source() if name == "prvDiaSources" else made.field_type(SCHEMA[survey], name))
    for row in record[name] or ():
        if rng.random() < 0.7:
            _change(rng, row, types, rng.choice((0.1, 0.5, 1.0)))


def history_shape(rng, survey, record):
    """Histories that are null, empty, repeated, turned round, from the future, or long."""
    for name in HISTORIES[survey]:
        rows = record[name] or []
        kind = rng.randrange(7)
        if kind == 0:
            rows = None
        elif kind == 1:
            rows = []
        elif kind == 2:
            rows = rows * rng.choice((2, 3, 20))
        elif kind == 3:
            rows = rows[::-1]
        elif kind == 4:
            time = "jd" if survey == "ztf" else "midpointMjdTai"
            rows = [row | {time: row[time] + rng.choice((0.0, 1e-9, 1.0, 1e6, -1e6))} for row in rows]
        elif kind == 5:
            rows = [row for row in rows for _ in range(rng.choice((1, 10)))]
        record[name] = rows


def missing_parts(rng, survey, record):
    """Everything that may be null is, or some of it."""
    for name, kind in _types(SCHEMA[survey]).items():
        if isinstance(kind, list) and rng.random() < 0.6:
            record[name] = None


def stamps(rng, survey, record):
    """Stamps that lie: see `of_stamps`."""
    done = []
    for which in rng.sample(STAMPS, rng.choice((1, 1, 3))):
        what, stamp = of_stamps.mutate(rng, survey, which.lower())
        record[f"cutout{which}"] = stamp if survey == "lsst" else {"fileName": "s.fits.gz", "stampData": stamp}
        done.append(what)
    return "+".join(done)


ALL = (one_value, some_values, one_odd_number_everywhere, ids, top_values, history_values, history_shape, missing_parts)
ALL += (stamps,) * 8


def _copied(record):
    """A copy of a record whose rows may be changed; `copy.deepcopy` takes longer than all the rest."""
    out = dict(record)
    for name, value in record.items():
        if isinstance(value, dict):
            out[name] = dict(value)
        elif isinstance(value, list):
            out[name] = [dict(row) for row in value]
    return out


def mutate(rng, survey, record):
    """(name, record) with one or two changes."""
    record, names = _copied(record), []
    for _ in range(rng.choice((1, 1, 2))):
        change = rng.choice(ALL)
        detail = change(rng, survey, record)
        names.append(f"{change.__name__}({detail})" if detail else change.__name__)
    return "+".join(names), record

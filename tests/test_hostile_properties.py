"""Whatever a packet holds, it has one outcome, and what is made of it is finite: tried on values that hypothesis finds.

Warnings are errors here, so that a sum that overflows is one too.
"""

import copy
import gzip
import math
import random
from datetime import datetime
from decimal import Decimal

import numpy as np
import packets as made
from fuzz.forms import SMALL_ID, container, framed, packet, payload
from fuzz.judge import judge, run, wrong_with
from fuzz.seeds import Schemas, lsst_record, lsst_stamp, ztf_record, ztf_stamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from make_alerts import alert_card, fits_bytes, wcs_cards

from dgl_broker.alert import Cutouts, Message
from dgl_broker.errors import PacketError
from dgl_broker.example import ExampleSpec, build_examples
from dgl_broker.stamps import MAX_PIXEL, read_stamp
from dgl_broker.surveys import read_alert, read_head
from dgl_broker.surveys.values import GREATEST, LEAST, columns, exact_id, number
from dgl_broker.wire import open_message, packet_from_record

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
SPEC = {survey: ExampleSpec.from_card(alert_card(survey)) for survey in ("ztf", "lsst")}
doubles = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
singles = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
KINDS = {
    "double": doubles,
    "float": singles,
    "long": longs,
    "int": ints,
    "boolean": st.booleans(),
    "string": st.text(max_size=9),
}


def values_of(schema, only=None):
    """Strategy of changes to a record of a schema: some of its plain fields, any values that the schema admits."""
    plain = {}
    for field in schema["fields"]:
        kind, nullable = field["type"], isinstance(field["type"], list)
        kind = kind[1] if nullable else kind
        if isinstance(kind, str) and kind in KINDS and (only is None or field["name"] in only):
            plain[field["name"]] = KINDS[kind] | st.none() if nullable else KINDS[kind]
    return st.fixed_dictionaries({}, optional=plain)


def built(survey, record):
    """(alert, example or refusal) of a record, or the PacketError that reading it gave."""
    try:
        opened = open_message(packet(survey, record, "null" if survey == "ztf" else None), survey, Schemas())
        head = read_head(opened)
        alert = read_alert(opened.packet())
    except PacketError as error:
        assert len(str(error)) < 500
        return None, error
    assert (head.alert_id, head.object_id, head.mjd_tai) == (alert.alert_id, alert.object_id, alert.mjd_tai)
    return alert, build_examples([alert], SPEC[survey])[0]


def assert_sound(survey, record):
    """A record becomes an error, a refusal or an example; an alert's light curve and an example are finite."""
    alert, example = built(survey, record)
    if alert is None:
        return
    curve = alert.light_curve
    for name in ("mjd_tai", "flux_njy", "flux_err_njy"):
        assert np.isfinite(getattr(curve, name)).all(), name
    assert (
        (curve.flux_err_njy > 0).all() and (np.diff(curve.mjd_tai) >= 0).all() and abs(curve.mjd_tai[-1] - alert.mjd_tai) < 1e-9
    )
    assert -(2**63) <= alert.alert_id < 2**63 and alert.alert_id
    if hasattr(example, "image"):
        for array in (example.image, example.light_curve, example.context):
            assert array.dtype == np.float32 and np.isfinite(array).all()


@EXAMPLES
@given(values_of(made.field_type(made.LSST_SCHEMA, "diaSource")), values_of(made.field_type(made.LSST_SCHEMA, "diaObject")))
def test_any_values_of_an_lsst_trigger(source, dia_object):
    record = lsst_record()
    record["diaSource"] = record["diaSource"] | source
    record["diaObject"] = record["diaObject"] | dia_object
    assert_sound("lsst", record)


@EXAMPLES
@given(values_of(made.field_type(made.ZTF_SCHEMA, "candidate")))
def test_any_values_of_a_ztf_trigger(candidate):
    record = ztf_record()
    record["candidate"] = record["candidate"] | candidate
    assert_sound("ztf", record)


@EXAMPLES
@given(
    st.lists(values_of(made.field_type(made.LSST_SCHEMA, "diaSource")), max_size=4),
    st.lists(values_of(made.field_type(made.LSST_SCHEMA, "prvDiaForcedSources")), max_size=4),
)
def test_any_values_of_an_lsst_history(sources, forced):
    record = lsst_record()
    record["prvDiaSources"] = [made.lsst_source(-1.0 - i, 60 + i) | row for i, row in enumerate(sources)]
    record["prvDiaForcedSources"] = [made.lsst_forced(-1.5 - i, 80 + i) | row for i, row in enumerate(forced)]
    assert_sound("lsst", record)


@EXAMPLES
@given(
    st.lists(values_of(made.field_type(made.ZTF_SCHEMA, "prv_candidates")), max_size=4),
    st.lists(values_of(made.field_type(made.ZTF_SCHEMA, "fp_hists")), max_size=4),
)
def test_any_values_of_a_ztf_history(rows, forced):
    record = ztf_record()
    record["prv_candidates"] = [made.ztf_row(-1.0 - i) | row for i, row in enumerate(rows)]
    record["fp_hists"] = [made.ztf_forced(-1.5 - i) | row for i, row in enumerate(forced)]
    assert_sound("ztf", record)


@EXAMPLES
@given(st.lists(doubles | longs | st.none() | st.text(max_size=3) | st.booleans(), max_size=6))
def test_a_column_holds_numbers_of_a_sane_size_or_none(values):
    (found,) = columns([[{"x": value} for value in values]], ("x",))
    assert found.dtype == np.float64 and len(found) == len(values)
    known = found[np.isfinite(found)]
    assert ((known == 0) | ((np.abs(known) >= LEAST) & (np.abs(known) <= GREATEST))).all()
    for value, one in zip(values, found):
        if isinstance(value, float) and LEAST <= abs(value) <= GREATEST:
            assert one == value


@EXAMPLES
@given(longs | doubles | st.none() | st.booleans() | st.text(max_size=5))
def test_an_id_is_exact_or_none(value):
    found = exact_id(value)
    assert found is None or (found == value and type(found) is int and 0 < abs(found) <= 2**63)
    assert number(value) is None or math.isfinite(number(value))


KEYWORDS = ("NAXIS", "NAXIS1", "NAXIS2", "BITPIX", "BSCALE", "BZERO", "BLANK", "CRPIX1", "PC1_1", "CDELT2", "CD1_1")
texts = st.floats().map(repr) | st.integers().map(str) | st.text("0123456789+-.eEdD'TF /", max_size=20)
CUTOUTS = {
    "lsst": Cutouts(None, None, None),
    "ztf": Cutouts(None, None, None, (7.0, math.nan, -7.0), pixel_scale_arcsec=1.012, full_side=63, detector_xy=(10.0, 3000.0)),
}


def assert_sound_stamp(data, survey, which="difference"):
    """FITS bytes become an error or a stamp of finite pixels."""
    try:
        stamp = read_stamp(data, which, CUTOUTS[survey])
    except PacketError as error:
        assert error.reason.startswith("stamp_") and len(str(error)) < 300
        return
    if stamp is not None:
        assert np.isfinite(stamp.pixels).all() and np.abs(stamp.pixels).max() <= MAX_PIXEL
        assert stamp.pixels.dtype == np.float32 and not stamp.pixels[~stamp.valid].any()


@settings(EXAMPLES, max_examples=200)
@given(
    st.sampled_from(("ztf", "lsst")),
    st.lists(st.tuples(st.sampled_from(KEYWORDS), texts), min_size=1, max_size=4),
    st.booleans(),
)
def test_any_cards_of_a_stamp(survey, cards, in_front):
    data = gzip.decompress(ztf_stamp()) if survey == "ztf" else lsst_stamp()
    lines = b"".join(f"{key:<8}= {text:>20}".encode()[:80].ljust(80) for key, text in cards)
    at = 80 if in_front else data.find(b"END".ljust(80))
    assert_sound_stamp((data[:at] + lines + data[at:2880])[:2880] + data[2880:], survey)


@settings(EXAMPLES, max_examples=60)
@given(
    hnp.arrays(np.float32, (12, 11), elements=singles),
    st.sampled_from((("ztf", "template"), ("ztf", "difference"), ("lsst", "difference"))),
)
def test_any_pixels_of_a_stamp(pixels, kind):
    survey, which = kind
    cards = wcs_cards(40.0, x0=5.0, y0=6.0) if survey == "lsst" else {}
    assert_sound_stamp(fits_bytes(pixels, gzipped=survey == "ztf", **cards), survey, which)
    whole = np.resize(pixels, (63, 63) if survey == "ztf" else (30, 30))
    record = ztf_record() if survey == "ztf" else lsst_record()
    stamp = fits_bytes(whole, survey == "ztf", **({} if survey == "ztf" else wcs_cards(40.0)))
    record["cutout" + which.title()] = {"fileName": "s", "stampData": stamp} if survey == "ztf" else stamp
    assert_sound(survey, record)


@settings(EXAMPLES, max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 2**32 - 1))
def test_any_bytes_in_any_framing(content, number_of_schema):
    values = [
        content,
        framed(number_of_schema, content),
        framed(SMALL_ID, content),
        b"Obj\x01" + content,
        b"\x1f\x8b" + content,
    ]
    assert_judged("lsst", values)


def assert_judged(survey, values):
    """Values have one outcome each that can be published, and a sane packet among them has its own."""
    account = judge(survey, [(f"value {n}", value) for n, value in enumerate(values)], random.Random(len(values)))
    assert account.failures == []
    assert account.outcomes.total() == len(values) and account.sane == 1


names = st.text(max_size=4) | st.sampled_from(("a", "b", "alert", "candidate", "null", "\ud800"))
types = st.recursive(
    st.sampled_from(("null", "boolean", "int", "long", "float", "double", "bytes", "string", "a", "b", "alert"))
    | st.builds(lambda n, s: {"type": "fixed", "name": n, "size": s}, names, st.integers(-1, 2**40) | st.text(max_size=2))
    | st.builds(lambda n, s: {"type": "enum", "name": n, "symbols": s}, names, st.lists(names, max_size=3) | st.none()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(lambda kind: {"type": "array", "items": kind}, inner)
        | st.builds(lambda kind: {"type": "map", "values": kind}, inner)
        | st.builds(lambda kind: {"type": kind, "logicalType": "decimal", "scale": -5}, inner)
        | st.builds(
            lambda n, kinds: {"type": "record", "name": n, "fields": [{"name": k, "type": v} for k, v in kinds]},
            names,
            st.lists(st.tuples(names, inner), max_size=4),
        )
    ),
    max_leaves=12,
)


@settings(EXAMPLES, max_examples=100)
@given(types, st.binary(max_size=40), st.booleans())
def test_any_schema_in_a_container(kind, content, in_front):
    extra = {"name": "extra", "type": kind}
    fields = [extra, *made.ZTF_SCHEMA["fields"]] if in_front else [*made.ZTF_SCHEMA["fields"], extra]
    sane = payload("ztf", ztf_record())
    whole = {**made.ZTF_SCHEMA, "fields": fields}
    contents = (content + sane, sane + content, b"\0" + sane, sane + b"\0")
    assert_judged("ztf", [container(whole, [(1, one)]) for one in contents] + [container(kind, [(1, content)])])


@EXAMPLES
@given(st.binary(max_size=30), st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5) | st.none()), max_size=3))
def test_any_key_and_headers(key, headers):
    survey, value = "lsst", packet("lsst", lsst_record())
    message = Message(value, "alerts", 0, 5, key, 1_700_000_000_000, tuple(headers))
    (outcome,) = run(survey, [message], False, False)
    assert wrong_with(survey, message, outcome) is None
    # A key that begins as JSON does is taken for the schema, as Fink sends it; any other says nothing.
    assert outcome.status == "scored" or key.startswith(b"{")


odd_cells = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | doubles | st.text(max_size=5) | st.binary(max_size=5)
odd_cells |= st.lists(st.none() | st.integers() | st.dictionaries(st.text(max_size=2), st.none()), max_size=2)
odd_cells |= st.sampled_from((datetime(2026, 1, 1), Decimal("1e400"), (1, 2), np.float64(3.0), {}, {"jd": None}, "x" * 5000))


@settings(EXAMPLES, max_examples=150)
@given(
    st.sampled_from(("ztf", "lsst")), st.lists(st.tuples(st.randoms(use_true_random=False), odd_cells), min_size=1, max_size=3)
)
def test_any_cells_of_a_row_of_a_table(survey, changes):
    row = copy.deepcopy(ztf_record() if survey == "ztf" else lsst_record())
    for random_, cell in changes:
        holder, key = random_.choice(list(_cells(row)))
        holder[key] = cell
    try:
        packet_ = packet_from_record(None, row)
    except PacketError as error:
        packet_ = error
    message = Message(b"", source="table.parquet", source_row=7, packet=packet_)
    (outcome,) = run(survey, [message], False, True)
    assert wrong_with(survey, message, outcome) is None


def _cells(value):
    """(holder, key) of everything within a row."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _cells(value[key])

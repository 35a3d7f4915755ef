"""Known attacks on a reader of packets, one or a few of each kind, with the outcome that each must have.

`python tests/fuzz/known.py` judges them in a process of their own, with the decoder that DGL_DECODER names, and prints JSON: of
each its kind, name, status, reason, id, seconds of CPU, MiB by which the process grew, and what else is wrong.
"""

import copy
import gzip
import json
import math
import struct
import sys
import time
import zlib
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import packets as made

from dgl_broker.surveys.avro_parts import bytes_of, long_of
from dgl_broker.wire.codecs import compress
from fuzz import of_stamps
from fuzz.forms import SCHEMA, SMALL_ID, block, container, framed, packet, payload
from fuzz.seeds import lsst_record, lsst_stamp, ztf_record, ztf_stamp

HUGE = (2**31, 2**40, 2**62)
ENDS = (2**63 - 1, -(2**63), 2**53 + 1)


def sane(survey):
    """A packet that is scored."""
    return packet("lsst", lsst_record()) if survey == "lsst" else packet("ztf", ztf_record(), "null")


def in_front(kind, content, count=1, survey="ztf"):
    """A sane packet with one more field before all others, of any type and with any bytes."""
    schema = {**SCHEMA[survey], "fields": [{"name": "extra", "type": kind}, *SCHEMA[survey]["fields"]]}
    record = ztf_record() if survey == "ztf" else lsst_record()
    return container(schema, [(count, content + payload(survey, record))])


def with_stamp(survey, stamp, which="Difference"):
    """A packet with these bytes for a stamp."""
    name = f"cutout{which}"
    if survey == "ztf":
        return packet("ztf", ztf_record(**{name: {"fileName": "s.fits.gz", "stampData": stamp}}), "null")
    return packet("lsst", lsst_record(**{name: stamp}))


def with_source(survey, **changes):
    """A packet whose trigger has these values."""
    record, name = (ztf_record(), "candidate") if survey == "ztf" else (lsst_record(), "diaSource")
    record[name] = record[name] | changes
    return packet(survey, record, "null" if survey == "ztf" else None)


@cache
def zeros_gzipped(megabytes, head=b""):
    """Gzip of `head` and so many MiB of zeros, without the work of packing all of them."""
    packer = zlib.compressobj(9, wbits=31)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + one * megabytes


def sizes():
    """Declared sizes that nothing is behind."""
    boolean, text = {"type": "array", "items": "boolean"}, {"type": "map", "values": "string"}
    for size in HUGE:
        yield f"array of {size} items", "ztf", in_front(boolean, long_of(size)), "undecodable"
        yield f"array of -{size} items", "ztf", in_front(boolean, long_of(-size) + long_of(8)), "undecodable"
        yield f"string of {size} bytes", "ztf", in_front("string", long_of(size)), "undecodable"
        yield f"map of {size} entries", "ztf", in_front(text, long_of(size)), "undecodable"
        lsst, stamp = payload("lsst", lsst_record()), bytes_of(lsst_stamp())
        lie = lsst.replace(stamp, long_of(size) + lsst_stamp())
        assert lie != lsst
        yield f"stamp of {size} bytes", "lsst", framed(SMALL_ID, lie), "undecodable"
        yield f"history of {size} rows", "lsst", framed(SMALL_ID, _rows(lsst, size)), "undecodable"
        yield f"block of {size} bytes", "ztf", container(SCHEMA["ztf"], []) + long_of(1) + long_of(size), "truncated"
    yield "string of -1 bytes", "ztf", in_front("string", long_of(-1)), "undecodable"


def _rows(lsst, size):
    """An LSST record whose history of sources says another number of rows."""
    without = payload("lsst", lsst_record(0, 3))
    at = next(i for i, (a, b) in enumerate(zip(lsst, without)) if a != b)  # where it says one row, and there none
    return lsst[:at] + long_of(size) + lsst[at + 1 :]


def bombs():
    """Little that inflates to much."""
    head = gzip.decompress(ztf_stamp())[:2880]
    yield "a gzip bomb for a stamp", "ztf", with_stamp("ztf", zeros_gzipped(1024)), "bad_cutout"
    yield "a gzip bomb behind a header", "ztf", with_stamp("ztf", zeros_gzipped(1024, head)), "bad_cutout"
    yield "a gzip bomb for an LSST stamp", "lsst", with_stamp("lsst", zeros_gzipped(1024)), "bad_cutout"
    nested = gzip.decompress(ztf_stamp())
    for depth in range(1, 11):
        nested = of_stamps.gzip_of(nested)
        if depth in (2, 10):
            yield f"gzip in gzip, {depth} deep", "ztf", with_stamp("ztf", nested), "bad_cutout"
    yield "gzip of a bomb", "ztf", with_stamp("ztf", of_stamps.gzip_of(zeros_gzipped(1024))), "bad_cutout"
    for codec in ("deflate", "snappy", "zstandard"):
        content = compress(codec, payload("ztf", ztf_record()) + bytes(64 << 20))
        yield f"a {codec} bomb for a block", "ztf", container(SCHEMA["ztf"], [(1, content)], codec.encode()), "too_large"


def fits():
    """Headers of stamps that are absurd."""
    for survey, stamp in (("lsst", lsst_stamp()), ("ztf", gzip.decompress(ztf_stamp()))):
        zipped = of_stamps.gzip_of if survey == "ztf" else bytes
        cards = [("NAXIS", "999"), ("NAXIS", "-1"), ("NAXIS", "99999999999999999999"), ("NAXIS1", "2147483647")]
        cards += [("NAXIS1", "1E308"), ("NAXIS2", "0"), ("NAXIS2", "-63"), ("BITPIX", "128"), ("BITPIX", "NaN")]
        cards += [("BSCALE", "NaN"), ("BSCALE", "INF"), ("BZERO", "1E400"), ("BSCALE", "(1,2)")]
        for key, text in cards:
            absurd = with_stamp(survey, zipped(of_stamps._set(stamp, key, text)))
            yield f"{survey}: {key} = {text}", survey, absurd, "bad_cutout"
        end = stamp.find(b"END".ljust(80))
        endless = stamp[:end] + b"COMMENT and another".ljust(80) * 36 * 300
        yield f"{survey}: cards without an end", survey, with_stamp(survey, zipped(endless)), "bad_cutout"


def numbers():
    """NaN, infinities and subnormals, and ids at the ends of int64."""
    for name, odd in (("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf)):
        for survey, key in (("lsst", "ra"), ("lsst", "midpointMjdTai"), ("lsst", "psfFlux"), ("ztf", "jd"), ("ztf", "magpsf")):
            yield f"{survey}: {key} is {name}", survey, with_source(survey, **{key: odd}), "bad_value"
        for survey in ("lsst", "ztf"):
            yield f"{survey}: all pixels are {name}", survey, with_stamp(survey, _flat(survey, odd)), "no_difference"
    for survey in ("lsst", "ztf"):
        yield f"{survey}: all pixels are subnormal", survey, with_stamp(survey, _flat(survey, 1e-45)), "constant_stamp"
    yield "lsst: psfFluxErr is subnormal", "lsst", with_source("lsst", psfFluxErr=1e-45), "bad_value"
    yield "ztf: sigmapsf is subnormal", "ztf", with_source("ztf", sigmapsf=1e-45), "bad_value"
    for its_id in (*ENDS, 0):
        for survey in ("lsst", "ztf"):
            yield f"{survey}: id {its_id}", survey, _with_id(survey, its_id), None if its_id else "inexact_id"


def _with_id(survey, its_id):
    """A packet with this id, which stands in it twice."""
    record, name, key = (
        (ztf_record(), "candidate", "candid") if survey == "ztf" else (lsst_record(), "diaSource", "diaSourceId")
    )
    assert key in record and key in record[name]
    record |= {key: its_id, name: record[name] | {key: its_id}}
    return packet(survey, record, "null" if survey == "ztf" else None)


def _flat(survey, value):
    """A stamp of one value."""
    stamp = lsst_stamp() if survey == "lsst" else gzip.decompress(ztf_stamp())
    side = 30 if survey == "lsst" else 63
    pixels = np.full(side * side, value, dtype=">f4").tobytes()
    whole = stamp[:2880] + pixels + stamp[2880 + len(pixels) :]
    return whole if survey == "lsst" else of_stamps.gzip_of(whole)


def schemas():
    """Schemas and frames that are wrong, deep, or contain themselves."""
    lsst = payload("lsst", lsst_record())
    for number in (0, 424_242, 2**32 - 1):
        yield f"schema id {number}", "lsst", framed(number, lsst), "unknown_schema"
    for codec in (b"bzip2", b"xz", b"\xff\xfe"):
        yield f"codec {codec}", "ztf", container(SCHEMA["ztf"], [(1, payload("ztf", ztf_record()))], codec), "unknown_codec"
    arrays = unions = "int"
    for _ in range(200):
        arrays = {"type": "array", "items": arrays}
        unions = ["null", {"type": "array", "items": unions}]
    yield "200 arrays in each other", "ztf", in_front(arrays, b"\0"), "bad_schema"
    yield "200 unions in each other", "ztf", in_front(unions, b"\0"), "bad_schema"
    wide = [{"type": "fixed", "name": f"f{n}", "size": n + 1} for n in range(5000)]
    yield "a union of 5,000", "ztf", in_front(wide, long_of(2**40)), "undecodable"
    knot = {"type": "record", "name": "knot", "fields": [{"name": "next", "type": ["null", "knot"]}]}
    yield "a record that contains itself", "ztf", in_front(knot, b"\2" * 100_000 + b"\0"), "bad_schema"
    yield "an array of what contains itself", "ztf", in_front({"type": "array", "items": knot}, b"\0"), "bad_schema"
    yield "the packet contains itself", "ztf", in_front({"type": "map", "values": "ztf.alert"}, b"\0"), "bad_schema"
    inner = made.record("t0", a="int")
    for n in range(1, 40):
        two = [{"name": "a", "type": inner}, {"name": "b", "type": f"t{n - 1}"}]
        inner = {"type": "record", "name": f"t{n}", "fields": two}
    yield "a record that doubles 40 times", "ztf", in_front(inner, b""), "bad_schema"
    yield "arrays of nothing", "ztf", in_front({"type": "array", "items": "null"}, long_of(2**61)), "bad_schema"
    yield from odd_types()


def odd_types():
    """Types that Avro forbids and fastavro passes over: what is made of their schema must not read otherwise than it."""
    empty = {"type": "enum", "name": "none", "symbols": []}
    yield "an enum without symbols", "ztf", in_front(empty, long_of(0)), None
    twice = made.record("twice", a="int", b=empty, c="int", d="string")
    yield "an enum without symbols between others", "ztf", in_front(twice, b"\0\0\0\0"), None
    nested = ["null", ["null", "bytes"]]
    for content in (b"\0", b"\2\0", b"\2\2" + bytes_of(b"abc")):
        yield f"a union in a union, {content}, that nobody asks for", "ztf", in_front(nested, content), None
    schema = copy.deepcopy(SCHEMA["ztf"])
    trigger = next(field["type"] for field in schema["fields"] if field["name"] == "candidate")
    next(field for field in trigger["fields"] if field["name"] == "rb")["type"] = ["null", ["null", "float"]]
    value = struct.pack("<f", 0.4375)
    record = ztf_record()
    sound = payload("ztf", record | {"candidate": record["candidate"] | {"rb": 0.4375}})
    assert sound.count(b"\2" + value) == 1
    odd = sound.replace(b"\2" + value, b"\2\2" + value)
    yield "a union in a union that is read", "ztf", container(schema, [(1, odd)]), "wrong_type"


def containers():
    """Not one alert in a message, and blocks that are broken."""
    one = payload("ztf", ztf_record())
    good = block(1, one)
    head = container(SCHEMA["ztf"], [])
    yield "no alert", "ztf", head, "no_record"
    yield "two alerts", "ztf", container(SCHEMA["ztf"], [(2, one * 2)]), "many_records"
    yield "two blocks", "ztf", head + good * 2, "many_records"
    yield "a million alerts", "ztf", container(SCHEMA["ztf"], [(1_000_000, one * 700)]), "many_records"
    yield "a million blocks of none", "ztf", head + block(0, b"") * 400_000, ("no_record", "too_slow")
    yield "a broken block behind a good one", "ztf", head + good + good[:-16] + bytes(16), ("many_records", "sync_marker")
    yield "a block that is cut behind a good one", "ztf", head + good + good[:-40], ("many_records", "truncated")
    yield "a broken marker", "ztf", head + good[:-16] + bytes(16), "sync_marker"


KINDS = (sizes, bombs, fits, numbers, schemas, containers)
KEYS = (None, b"\xff\xfe\x00", b"", b"\xf0\x9f\x92")
HEADERS = ((), (("\N{SNOWMAN}", b"\xff\xfe"), ("", None)))


def attacks():
    """(kind, name, survey, value, reason): the reason, or those that there may be; None where it is scored."""
    for kind in KINDS:
        for name, survey, value, reason in kind():
            yield kind.__name__, name, survey, value, reason


def _memory_mib(name):
    """`VmRSS`, what this process has now, or `VmHWM`, the most that it has had [MiB]."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _forget_most():
    """The most that this process has had is what it has now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def main():
    """Judge them all, each between two sane packets, with keys and headers that are no text; print what was found.

    Of odd schemas each comes three times: patterns are made of one that is used again, and must not change the outcome.
    """
    from dgl_broker.alert import Message
    from dgl_broker.native import decoder_name
    from fuzz.judge import equal, run, wrong_with

    alone = {survey: run(survey, [Message(sane(survey))], False, True)[0] for survey in SCHEMA}
    listed = list(attacks())
    found = []
    for number, (kind, name, survey, value, _) in enumerate(listed):
        values = (sane(survey), *([value] * (3 if kind == "schemas" else 1)), sane(survey))
        key, headers = KEYS[number % 4], HEADERS[number % 2]
        messages = [Message(v, "alerts", 0, n, key, 1_700_000_000_000, headers) for n, v in enumerate(values)]
        _forget_most()
        had, began = _memory_mib("VmRSS"), time.process_time()
        one, attack, *again, other = run(survey, messages, False, True)
        seconds, grown = time.process_time() - began, _memory_mib("VmHWM") - had
        unharmed = equal(one, alone[survey]) and equal(other, alone[survey])
        problem = wrong_with(survey, messages[1], attack) or (
            None if unharmed else "a sane packet beside it has another outcome"
        )
        if not all(equal(more, attack) for more in again):
            problem = f"{attack.status}, and when it comes again {[(more.status, more.reason) for more in again]}"
        its_id = None if attack.alert_id is None else str(attack.alert_id)
        found.append([kind, name, attack.status, attack.reason, its_id, round(seconds, 3), round(grown, 1), problem])
    print(json.dumps({"decoder": decoder_name(), "found": found}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()

"""Archives as streams of messages: tars, gzip, containers of many; whole, cut short, hostile; and in any order."""

import gzip
import hashlib
import io
import random
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from simulated import packets

from dgl_broker import wire
from dgl_broker.archive.catalogue import ROW, Catalogue, Part, object_hashes, read_catalogue
from dgl_broker.archive.files import gunzip
from dgl_broker.archive.in_order import read_in_order
from dgl_broker.archive.sources import FileSource, read_messages
from dgl_broker.errors import InputUnavailable, PacketError

DATA = Path(__file__).parent / "data" / "alerts"
ZTF = sorted(DATA.glob("2*.avro"))[:3] + [DATA / "1105522281015015000.avro"]
EMPTY = gzip.compress(b"")


def tar_of(path, members, mode="w:gz"):
    """A tar of (name, bytes)."""
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            found = tarfile.TarInfo(name)
            found.size = len(content)
            tar.addfile(found, io.BytesIO(content))
    return path


def messages(path, digest=None):
    return list(FileSource(path).messages("ztf", digest=digest))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_gives_its_alerts_in_its_order_and_nothing_else(tmp_path, mode):
    values = [path.read_bytes() for path in ZTF]
    members = [(f"night/{n}.avro", value) for n, value in enumerate(values)] + [("night/README.txt", b"no alert")]
    path = tar_of(tmp_path / "any_name", members, mode)
    digest = hashlib.sha256()
    found = messages(path, digest)
    assert [m.value for m in found] == values
    assert [m.source for m in found] == [f"{path}:night/{n}.avro" for n in range(len(ZTF))]
    assert digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["any_name"]  # nothing was unpacked


def test_files_of_one_alert_are_not_decoded_to_be_told_from_files_of_many(tmp_path, monkeypatch):
    import fastavro

    reader = fastavro.reader(io.BytesIO(ZTF[0].read_bytes()))
    schema, record = reader.writer_schema, next(reader)
    for n, codec in ((0, "null"), (1, "null"), (1, "deflate"), (2, "null")):
        (tmp_path / f"{n}-{codec}.avro").write_bytes(wire.encode_container(schema, *[record] * n, codec=codec))
    whole = ZTF[0].read_bytes()
    (tmp_path / "cut.avro").write_bytes(whole[:-100])
    (tmp_path / "behind.avro").write_bytes(whole + b"more")
    slow = {path.name: [(m.value, m.packet is None) for m in messages(path)] for path in sorted(tmp_path.iterdir())}
    assert {name: len(found) for name, found in slow.items()} == {
        "0-null.avro": 1, "1-null.avro": 1, "1-deflate.avro": 1, "2-null.avro": 2, "cut.avro": 1, "behind.avro": 2,
    }  # fmt: skip
    asked = []
    monkeypatch.setattr(wire, "decode_all", lambda data, *_: asked.append(bytes(data)) or iter(()))
    for name in ("1-null.avro", "1-deflate.avro"):
        assert [(m.value, m.packet is None) for m in messages(tmp_path / name)] == slow[name]
    assert asked == []
    messages(tmp_path / "2-null.avro")
    assert len(asked) == 1


def test_members_may_be_gzipped_and_hold_many(tmp_path):
    import fastavro

    records, schema = [], None
    for path in ZTF[:1] * 3:
        reader = fastavro.reader(io.BytesIO(path.read_bytes()))
        schema = reader.writer_schema
        records += list(reader)
    many = io.BytesIO()
    fastavro.writer(many, schema, records)
    path = tar_of(tmp_path / "t.tar.gz", [("a.avro.gz", gzip.compress(ZTF[0].read_bytes())), ("b.avro", many.getvalue())])
    found = messages(path)
    assert [(m.source.rpartition(":")[2], m.source_row) for m in found] == [
        ("a.avro.gz", 0),
        *(("b.avro", n) for n in range(3)),
    ]
    assert found[0].value == ZTF[0].read_bytes()


@pytest.mark.parametrize("share", [0.05, 0.4, 0.75, 0.995])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_was_cut_says_so_once_and_gives_what_stands_before(tmp_path, mode, share):
    values = [path.read_bytes() for path in ZTF]
    whole = tar_of(tmp_path / "w", [(f"{n}.avro", v) for n, v in enumerate(values)], mode).read_bytes()
    cut = tmp_path / "cut"
    # 0.995 of a plain tar ends within its end mark of 10 kB: then nothing is missing.
    cut.write_bytes(whole[: int(len(whole) * share)])
    found = messages(cut)
    *good, last = found
    if share == 0.995 and mode == "w":
        assert [m.value for m in found] == values
        return
    assert [m.value for m in good] == values[: len(good)] and len(good) <= len(values)
    assert isinstance(last.packet, PacketError) and last.packet.reason == "truncated" and last.value == b""


def test_a_tar_that_ends_between_two_members_is_not_taken_for_a_whole_one(tmp_path):
    values = [path.read_bytes() for path in ZTF[:2]]
    whole = tar_of(tmp_path / "w", [(f"{n}.avro", v) for n, v in enumerate(values)], "w").read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: 512 + -(-len(values[0]) // 512) * 512])
    found = messages(cut)
    assert [m.value for m in found[:-1]] == values[:1] and found[-1].packet.reason == "truncated"
    assert "end mark" in found[-1].packet.detail


def test_gzip_of_several_members_is_one_stream(tmp_path):
    values = [path.read_bytes() for path in ZTF]
    plain = tar_of(tmp_path / "w", [(f"{n}.avro", v) for n, v in enumerate(values)], "w").read_bytes()
    path = tmp_path / "pigz.tar.gz"
    path.write_bytes(gzip.compress(plain[:70_001]) + gzip.compress(plain[70_001:]))
    assert [m.value for m in messages(path)] == values


def test_a_damaged_gzip_stream_within_a_tar_is_one_dead_letter(tmp_path):
    values = [path.read_bytes() for path in ZTF]
    whole = bytearray(tar_of(tmp_path / "w", [(f"{n}.avro", v) for n, v in enumerate(values)]).read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 200] = b"\xff" * 200
    (tmp_path / "bad").write_bytes(whole)
    found = messages(tmp_path / "bad")
    assert isinstance(found[-1].packet, PacketError) and all(m.value in values for m in found[:-1])


def test_members_that_are_skipped_cost_no_alert_behind_them(tmp_path, monkeypatch):
    for name, n in (("PIECE_BYTES", 10_240), ("MAX_INFLATED_BYTES", 100_000), ("MAX_BETWEEN_BYTES", 200_000)):
        monkeypatch.setattr(f"dgl_broker.archive.tars.{name}", n)
    value, large = ZTF[0].read_bytes(), b"x" * 1_000_001
    members = [("a.avro", value), ("huge.avro", large), ("b.avro", value), ("README", large), ("c.avro", value)]
    for mode in ("w", "w:gz"):
        found = messages(tar_of(tmp_path / "t", members, mode))
        assert [(m.value, m.packet and m.packet.reason) for m in found] == [
            (value, None), (b"", "too_large"), (value, None), (value, None)
        ]  # fmt: skip


def header(kind, size, name="x"):
    found = tarfile.TarInfo(name)
    found.type, found.size = kind, size
    return found.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("before", [b"", header(tarfile.DIRTYPE, 10**9), header(tarfile.REGTYPE, 0)])
def test_headers_that_say_they_are_long_are_not_gathered(tmp_path, monkeypatch, kind, before):
    for name, n in (("PIECE_BYTES", 10_240), ("MAX_BETWEEN_BYTES", 200_000)):
        monkeypatch.setattr(f"dgl_broker.archive.tars.{name}", n)
    first = tar_of(tmp_path / "w", [("a.avro", b"abc")], "w").read_bytes()[:1024]
    (tmp_path / "t").write_bytes(first + before + header(kind, 1_000_000) + b"0" * 1_000_448 + bytes(10_240))
    good, last = messages(tmp_path / "t")
    assert good.value == b"abc" and last.packet.reason == "truncated"
    assert "more than 200000 bytes of headers" in last.packet.detail


@pytest.mark.parametrize(
    ("kind", "content"), [(tarfile.GNUTYPE_LONGNAME, b"b.avro\0"), (tarfile.XHDTYPE, b"17 comment=a b c\n")]
)
def test_chained_headers_are_one_dead_letter(tmp_path, kind, content):
    first = tar_of(tmp_path / "w", [("a.avro", b"abc")], "w").read_bytes()
    chained = (header(kind, len(content)) + content.ljust(512, b"\0")) * 2000
    (tmp_path / "t").write_bytes(first[:1024] + chained + first)
    good, last = messages(tmp_path / "t")
    assert good.value == b"abc" and last.packet.reason == "truncated" and "beyond its alert 1" in last.packet.detail


def test_a_tar_without_alerts_is_told(tmp_path):
    with pytest.raises(InputUnavailable, match=r"no .avro"):
        messages(tar_of(tmp_path / "t.tar", [("README", b"x")], "w"))


def test_links_devices_and_sparse_members_are_not_followed(tmp_path):
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            found = tarfile.TarInfo("x.avro")
            found.type, found.linkname = kind, "/etc/passwd"
            tar.addfile(found)
        found = tarfile.TarInfo("good.avro")
        found.size = 3
        tar.addfile(found, io.BytesIO(b"abc"))
    assert [m.value for m in messages(path)] == [b"abc"]


def test_a_gzipped_message_is_inflated_and_a_cut_one_kept_as_it_is(tmp_path):
    value = packets("lsst", 20)[0][0]
    (tmp_path / "a.avro.gz").write_bytes(gzip.compress(value))
    (tmp_path / "b.avro.gz").write_bytes(gzip.compress(value)[:-9])
    found = list(read_messages([tmp_path], "lsst"))
    assert found[0].value == value
    assert found[1].packet.reason == "truncated" and found[1].value == gzip.compress(value)[:-9]


def test_gzip_of_many_members_costs_what_its_bytes_do(tmp_path):
    began = time.process_time()
    assert gunzip(EMPTY * 500_000) == b""
    assert gunzip(EMPTY * 100_000 + gzip.compress(b"x") + b"\0" * 3_000_000 + EMPTY * 100_000) == b"x"
    # A tar among as many.
    plain = tar_of(tmp_path / "w", [("a.avro", b"abc")], "w").read_bytes()
    path = tmp_path / "t.tar.gz"
    path.write_bytes(gzip.compress(plain[:700]) + EMPTY * 300_000 + gzip.compress(plain[700:]) + EMPTY * 10 + b"\0" * 5000)
    assert [m.value for m in messages(path)] == [b"abc"]
    assert time.process_time() - began < 20  # 2 s here; by copies of the rest, a minute for the first alone


def test_gzip_may_be_split_into_members_anywhere_with_padding_between():
    rng, content = random.Random(5), ZTF[0].read_bytes() * 3
    for _ in range(20):
        at = sorted(rng.randrange(len(content) + 1) for _ in range(rng.randrange(40)))
        parts = [content[i:j] for i, j in zip([0, *at], [*at, len(content)])]
        packed = b"".join(gzip.compress(part, 1) + b"\0" * rng.choice([0, 1, 511, 512, 5000]) for part in parts)
        assert gunzip(packed) == content
        with pytest.raises(PacketError) as found:
            gunzip(packed, len(content) - 1)
        assert found.value.reason == "too_large"
        with pytest.raises(PacketError) as found:
            gunzip(packed.rstrip(b"\0")[:-5])
        assert found.value.reason == "truncated"


@pytest.mark.parametrize("before", [b"", b"\0" * 700])
def test_what_is_no_gzip_behind_a_member_is_told(before):
    for n in (1, 300, 3_000_000):
        with pytest.raises(PacketError) as found:
            gunzip(gzip.compress(b"abc" * n) + before + b"garbage")
        assert found.value.reason == "undecodable"


def test_a_mapped_gzip_file_is_let_go_of(tmp_path, monkeypatch):
    monkeypatch.setattr("dgl_broker.archive.files.MAP_BYTES", 0)
    value = packets("lsst", 20)[0][0]
    for name, content in (("a", gzip.compress(value)), ("b", gzip.compress(value)[:-9])):
        (tmp_path / f"{name}.avro.gz").write_bytes(content)
    found = list(read_messages([tmp_path], "lsst"))
    assert found[0].value == value and found[1].packet.reason == "truncated"


def test_a_gzip_bomb_is_a_dead_letter(tmp_path, monkeypatch):
    monkeypatch.setattr("dgl_broker.archive.files.gunzip.__defaults__", (1_000_000,))
    (tmp_path / "bomb.avro.gz").write_bytes(gzip.compress(b"\0" * 1_000_001))
    (found,) = read_messages([tmp_path], "ztf")
    assert found.packet.reason == "too_large"


def test_names_that_are_no_text_can_be_written_down(tmp_path):
    path = tmp_path / "a.avro"
    path.write_bytes(ZTF[0].read_bytes())
    odd = str(tmp_path / "\udcff.avro")
    path.rename(odd)
    (found,) = read_messages([tmp_path], "ztf")
    found.source.encode()


# In order


class Listed:
    """A source of numbered values that counts how often it is opened."""

    def __init__(self, name, values):
        self.name, self.values, self.opened = name, values, 0

    def state(self):
        return {"bytes": 1 << 40}

    def messages(self, survey=None, limits=None, digest=None):
        from dgl_broker.alert import Message

        self.opened += 1
        for n, value in enumerate(self.values):
            yield Message(value, source=self.name, source_row=n)


def listed_catalogue(lengths):
    sources = [Listed(f"s{n}", [b"%d/%d" % (n, k) + b"." * 100 for k in range(length)]) for n, length in enumerate(lengths)]
    rows = np.zeros(sum(lengths), ROW)
    rows["source"] = np.repeat(np.arange(len(lengths)), lengths)
    rows["ordinal"] = np.concatenate([np.arange(length) for length in lengths])
    return Catalogue(sources, rows, [])


@pytest.mark.parametrize("budget", [0, 1000, 10**9])
def test_any_order_comes_out_of_sources_that_only_go_forwards(budget):
    catalogue = listed_catalogue([7, 1, 12, 5])
    order = list(range(25))
    random.Random(3).shuffle(order)
    order = np.array(order[:20])
    for start in (0, 9):
        found = [m.value.split(b".")[0].decode() for m in read_in_order(catalogue, order, "ztf", start, budget)]
        rows = catalogue.rows[order[start:]]
        assert found == [f"{s}/{o}" for s, o in zip(rows["source"], rows["ordinal"])]


def test_what_is_in_order_is_read_once_and_nothing_is_held():
    catalogue = listed_catalogue([50, 50])
    n = len(list(read_in_order(catalogue, np.arange(100), "ztf", 0, 0)))
    assert n == 100 and [s.opened for s in catalogue.sources] == [1, 1]
    interleaved = np.arange(100).reshape(2, 50).T.ravel()
    assert len(list(read_in_order(catalogue, interleaved, "ztf", 0, 0))) == 100
    assert [s.opened for s in catalogue.sources] == [2, 2]


def test_the_memory_decides_how_often_a_shuffled_source_is_read():
    catalogue = listed_catalogue([200])
    order = np.random.default_rng(1).permutation(200)
    list(read_in_order(catalogue, order, "ztf", 0, 10**9))
    assert catalogue.sources[0].opened == 1
    # Room for some 50 of 200: each reading through brings as many.
    list(read_in_order(catalogue, order, "ztf", 0, 50 * 105))
    assert 3 <= catalogue.sources[0].opened - 1 <= 5


def test_a_source_that_has_become_shorter_is_told():
    catalogue = listed_catalogue([5])
    catalogue.sources[0].values.pop()
    with pytest.raises(InputUnavailable, match="s0: has 4 messages, had more"):
        list(read_in_order(catalogue, np.arange(5), "ztf"))


# Parts


def made_catalogue():
    """Alerts of 40 objects, five each; two that cannot be read."""
    rows = np.zeros(202, ROW)
    rows["mjd_tai"] = np.concatenate([60000 + np.arange(200) % 50 / 10, [np.inf, np.inf]])
    rows["alert_id"] = np.append(np.arange(200), [0, 0])
    for n in range(202):
        hashes = object_hashes("ztf", f"ZTF{n % 40}" if n < 200 else f"unread|{n}")
        for name, value in zip(("shard", "draw", "object"), hashes):
            rows[name][n] = value
    return Catalogue([], rows, [])


def test_shards_are_disjoint_and_keep_objects_whole():
    catalogue = made_catalogue()
    parts = [set(Part(shard=(i, 4)).choose(catalogue, "ztf")[0].tolist()) for i in range(4)]
    assert set().union(*parts) == set(range(202)) and sum(map(len, parts)) == 202
    for part in parts:
        objects = {n % 40 for n in part if n < 200}
        assert {n for n in range(200) if n % 40 in objects} == {n for n in part if n < 200}
        assert 10 < len(part) < 100


def test_a_sample_takes_whole_objects_and_is_the_same_everywhere():
    catalogue = made_catalogue()
    chosen, left = Part(sample=0.3).choose(catalogue, "ztf")
    objects = {n % 40 for n in chosen.tolist() if n < 200}
    assert 4 <= len(objects) <= 20 and sum(n < 200 for n in chosen.tolist()) == 5 * len(objects)
    assert left == {"not in the sample": 202 - len(chosen)}
    smaller, _ = Part(sample=0.1).choose(catalogue, "ztf")
    assert set(smaller.tolist()) <= set(chosen.tolist())
    # A half of the objects of each shard, not one shard or another.
    assert len(set(Part(sample=0.5, shard=(0, 2)).choose(catalogue, "ztf")[0].tolist())) < 101


def test_windows_and_objects_keep_what_cannot_be_read():
    catalogue = made_catalogue()
    chosen, left = Part(60001.0, 60002.0).choose(catalogue, "ztf")
    times = catalogue.rows["mjd_tai"][chosen]
    assert np.isinf(times[-2:]).all() and times[:-2].min() == 60001.0 and times[:-2].max() < 60002.0
    assert left == {"of other times": 160}
    chosen, left = Part(objects=frozenset({"ZTF7", "ZTF8", "ZTFnone"})).choose(catalogue, "ztf")
    assert sorted(n % 40 for n in chosen[:-2].tolist()) == [7] * 5 + [8] * 5 and left == {"of other objects": 190}


def test_order_is_that_of_time_with_unreadable_ones_last():
    catalogue = made_catalogue()
    order, _ = Part().choose(catalogue, "ztf")
    times = catalogue.rows["mjd_tai"][order]
    assert (np.diff(times[:-2]) >= 0).all() and set(order[-2:].tolist()) == {200, 201}


def test_a_catalogue_knows_every_input_by_its_hash(tmp_path):
    path = tmp_path / "a.avro"
    path.write_bytes(ZTF[0].read_bytes())
    (tmp_path / "b.avro").write_bytes(b"no alert")
    sources = [FileSource(path), FileSource(tmp_path / "b.avro")]
    catalogue = read_catalogue(sources, "ztf", lambda message: None)
    assert [i["sha256"] for i in catalogue.inputs] == [hashlib.sha256(p.path.read_bytes()).hexdigest() for p in sources]
    assert np.isinf(catalogue.rows["mjd_tai"]).all() and catalogue.rows["shard"][0] != catalogue.rows["shard"][1]

"""The published layout there and back, and pickles that want more than arrays."""

import builtins
import collections
import io
import os
import pickle
import struct

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.sim.array_pickle import load_array_file, loads_arrays
from dgl_broker.sim.paper_layout import GroupWriter, read_groups, read_published_splits, write_groups


def examples(n=11, steps=7, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, 1, (n, 4, 45, 45)).astype(np.float32), rng.uniform(0, 1, (n, steps, 4)).astype(np.float32),
            rng.integers(0, 4, n))  # fmt: skip


# --- layout


def test_set_is_read_as_it_was_written(tmp_path):
    images, curves, labels = examples()
    rows = write_groups(tmp_path, images, curves, labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"GROUP_{g}_{kind}_7.npy" for g in range(1, 5) for kind in ("ims", "lcs")
    )
    read = read_groups(tmp_path)
    assert np.array_equal(np.bincount(read.labels, minlength=4), np.bincount(labels, minlength=4))
    for k in range(len(labels)):
        at = np.flatnonzero((read.labels == labels[k]) & (read.row == rows[k]))[0]
        np.testing.assert_array_equal(read.images[at], images[k])
        np.testing.assert_array_equal(read.light_curves[at], curves[k])
    assert np.array_equal(read.group, read.labels + 1) and read.galaxy_id is None


def test_files_hold_no_pickles(tmp_path):
    write_groups(tmp_path, *examples())
    for path in tmp_path.iterdir():
        np.load(path, allow_pickle=False)


def test_group_without_examples_is_an_empty_array(tmp_path):
    images, curves, _ = examples(3)
    write_groups(tmp_path, images, curves, np.array([0, 0, 2]))
    read = read_groups(tmp_path, 7)
    assert read.labels.tolist() == [0, 0, 2]


def test_writing_in_pieces_gives_the_same(tmp_path):
    images, curves, labels = examples(9)
    whole = write_groups(tmp_path / "whole", images, curves, labels)
    writer = GroupWriter(tmp_path / "pieces", 7, np.bincount(labels, minlength=4))
    pieces = np.concatenate([writer.add(images[a:b], curves[a:b], labels[a:b]) for a, b in ((0, 4), (4, 5), (5, 9))])
    writer.close()
    np.testing.assert_array_equal(whole, pieces)
    for path in (tmp_path / "whole").iterdir():
        np.testing.assert_array_equal(np.load(path), np.load(tmp_path / "pieces" / path.name))


def test_flat_images_and_double_precision_are_read(tmp_path):
    images, curves, labels = examples(4)
    write_groups(tmp_path, images, curves, np.arange(4))
    np.save(tmp_path / "GROUP_2_ims_7.npy", images[1].reshape(1, -1).astype(np.float64))
    read = read_groups(tmp_path)
    assert read.images.shape == (4, 4, 45, 45) and read.images.dtype == np.float32
    np.testing.assert_array_equal(read.images[1], images[1])


def test_records_name_the_galaxies(tmp_path):
    images, curves, _ = examples(4)
    write_groups(tmp_path, images, curves, np.arange(4))
    (tmp_path / "records.csv").write_text("group,row,galaxy_id\n4,0,d\n1,0,a\n2,0,b\n3,0,c\n")
    assert read_groups(tmp_path).galaxy_id.tolist() == ["a", "b", "c", "d"]
    (tmp_path / "records.csv").write_text("group,row,galaxy_id\n1,0,a\n")
    with pytest.raises(ConfigError, match="no record"):
        read_groups(tmp_path)


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(InputUnavailable, match="no GROUP_1_ims_T"):
        read_groups(tmp_path)
    write_groups(tmp_path, *examples())
    os.remove(tmp_path / "GROUP_3_lcs_7.npy")
    with pytest.raises(InputUnavailable, match="GROUP_3_lcs_7"):
        read_groups(tmp_path)
    np.save(tmp_path / "GROUP_3_lcs_7.npy", np.zeros((2, 14, 4)))
    with pytest.raises(ConfigError, match=r"light curves \(2, 14, 4\)"):
        read_groups(tmp_path)
    np.save(tmp_path / "GROUP_3_lcs_7.npy", np.zeros((500, 7, 4)))
    with pytest.raises(ConfigError, match="500 light curves"):
        read_groups(tmp_path)
    np.save(tmp_path / "GROUP_1_ims_14.npy", np.zeros((1, 4, 45, 45)))
    with pytest.raises(ConfigError, match="7, 14 steps"):
        read_groups(tmp_path)


def test_pickled_group_is_refused(tmp_path):
    write_groups(tmp_path, *examples())
    np.save(tmp_path / "GROUP_1_ims_7.npy", np.array({"a": 1}, object), allow_pickle=True)
    with pytest.raises(ConfigError, match="not a plain array"):
        read_groups(tmp_path)


# --- split files


def write_split(folder, name, split, value, steps=7, what="data"):
    np.save(folder / f"{name}_{split}_{what}_{steps}.npy", value, allow_pickle=True)


def test_published_splits_are_read_by_shape(tmp_path):
    sets = {split: examples(n, seed=n) for split, n in (("train", 6), ("validation", 3), ("test", 4))}
    for split, (images, curves, labels) in sets.items():
        write_split(tmp_path, "full_data", split, {"im": images, "lc": curves, "y": labels})
    read = read_published_splits(tmp_path)
    for split, (images, curves, labels) in sets.items():
        np.testing.assert_array_equal(read[split].images, images)
        np.testing.assert_array_equal(read[split].light_curves, curves)
        np.testing.assert_array_equal(read[split].labels, labels)


def test_published_splits_of_one_dictionary_an_example(tmp_path):
    images, curves, labels = examples(3)
    entries = {k: {"image": images[k], "lightcurve": curves[k], "label": int(labels[k])} for k in range(3)}
    for split in ("train", "validation", "test"):
        write_split(tmp_path, "full_data", split, entries)
    np.testing.assert_array_equal(read_published_splits(tmp_path)["test"].images, images)


def test_split_files_without_images_say_what_they_hold(tmp_path):
    for split in ("train", "validation", "test"):
        write_split(tmp_path, "full_data", split, {0: {"z": 0.5}, 1: {"z": 0.7}}, what="md")
    with pytest.raises(ConfigError, match="expected images, light curves and labels"):
        read_published_splits(tmp_path)
    with pytest.raises(InputUnavailable, match="no split file"):
        read_published_splits(tmp_path / "nowhere")


# --- pickles


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_arrays_and_containers_come_through():
    value = {
        "a": np.arange(6.0).reshape(2, 3), 3: [1, (2.5, None), {"x"}], "s": np.array(["abc", "d"]), b"b": np.float32(1.5),
        "nested": {"o": np.array([np.zeros(2), "text"], object)}, "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "od": collections.OrderedDict(k=True), "big": 2**70, "empty": np.empty((0, 4)),
    }  # fmt: skip
    for protocol in (3, 4):  # those of `np.save`
        read = loads_arrays(pickle.dumps(value, protocol))
        np.testing.assert_array_equal(read["a"], value["a"])
        np.testing.assert_array_equal(read["f"], value["f"])
        np.testing.assert_array_equal(read["s"], value["s"])
        assert read[3] == value[3] and read[b"b"] == 1.5 and read["od"] == {"k": True} and read["big"] == 2**70
        np.testing.assert_array_equal(read["nested"]["o"][0], np.zeros(2))
        assert read["empty"].shape == (0, 4)


def test_byte_order_is_kept():
    value = np.arange(5, dtype=">f4")
    np.testing.assert_array_equal(loads_arrays(pickle.dumps({"a": value}, 4))["a"], value)


def file_of(data):
    """A .npy file of one pickled object."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": ()})
    return out.getvalue() + data


HOSTILE = {
    "system": Runs(os.system, "touch /tmp/dgl_pickle_ran"),
    "eval": Runs(builtins.eval, "1"),
    "getattr": Runs(builtins.getattr, "", "__class__"),
    "exec in a list": [1, {"x": Runs(builtins.exec, "pass")}],
    "open": Runs(builtins.open, "/tmp/dgl_pickle_ran", "w"),
    "numpy load": Runs(np.load, "/etc/passwd"),
    "numpy save": Runs(np.save, "/tmp/dgl_pickle_ran", 1),
    "object inside an array": np.array([Runs(os.system, "touch /tmp/dgl_pickle_ran")], object),
    "an instance": io.StringIO,
    "a function": len,
    "a structured array": np.zeros(2, [("a", "f4"), ("b", object)]),
    "a masked array": np.ma.masked_array([1.0], [True]),
    "an array subclass": np.zeros(2).view(np.recarray),
    "datetimes": np.array(["2026-01-01"], "M8[D]"),
    "range": range(3),
    "bytearray": bytearray(b"x" * 10),
    "complex builtin": 1j,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_anything_else_is_refused_and_nothing_runs(name, protocol, tmp_path):
    (tmp_path / "x.npy").write_bytes(file_of(pickle.dumps({"a": HOSTILE[name]}, protocol)))
    with pytest.raises(ConfigError, match="not a pickle of arrays and containers only"):
        load_array_file(tmp_path / "x.npy")
    assert not os.path.exists("/tmp/dgl_pickle_ran")


def with_opcodes(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def global_of(module, name):
    return b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93"


CRAFTED = {
    "a persistent id": with_opcodes(b"Pevil\n"),
    "an extension": with_opcodes(b"\x82\x01"),
    "an instance by opcode": with_opcodes(b"(ios\nsystem\n"),
    "a memo index of four billion": with_opcodes(b"N", b"r" + struct.pack("<I", 2**32 - 2)),
    "a byte array of eight exabytes": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
    "truncated": pickle.dumps({"a": np.zeros(9)}, 4)[:-20],
    "empty": b"",
    "ndarray called": with_opcodes(global_of("numpy", "ndarray"), b"K\x05\x85R"),
    "the class ndarray as data": with_opcodes(global_of("numpy", "ndarray")),
    "a dtype as data": with_opcodes(global_of("numpy", "dtype"), b"\x8c\x02f8\x85R"),
    "the builder of arrays as data": with_opcodes(global_of("numpy._core.multiarray", "_reconstruct")),
    "an array that is never filled": with_opcodes(global_of("numpy._core.multiarray", "_reconstruct"), b")R"),
    "nested too deeply": pickle.dumps(None, 4)[:2] + b"]" * 60 + b"a" * 59 + b".",
}


def pointer_array():
    """Eight bytes as the content of an array of objects: numpy would take them for a pointer."""
    good = pickle.dumps(np.zeros(1, "i8"), 4)
    return good.replace(b"\x8c\x02i8", b"\x8c\x02O8")


CRAFTED["bytes as objects"] = pointer_array()
CRAFTED["a shape larger than the content"] = pickle.dumps(np.zeros(3, "u1"), 4).replace(b"K\x03\x85", b"K\x7f\x85")


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_opcodes_are_refused(name):
    with pytest.raises(ConfigError, match="not a pickle of arrays"):
        loads_arrays(CRAFTED[name])


def test_shared_references_do_not_multiply_work():
    """A dozen lines that stand for 10^12 values: each list holds the one before ten times."""
    value = [0]
    for _ in range(12):
        value = [value] * 10
    read = loads_arrays(pickle.dumps(value, 4))
    assert read[0] is read[9]


def test_plain_and_foreign_files(tmp_path):
    np.save(tmp_path / "plain.npy", np.arange(3))
    np.testing.assert_array_equal(load_array_file(tmp_path / "plain.npy"), [0, 1, 2])
    (tmp_path / "text.npy").write_bytes(b"not numpy at all")
    with pytest.raises(ConfigError, match="no .npy file"):
        load_array_file(tmp_path / "text.npy")
    np.save(tmp_path / "records.npy", np.zeros(2, [("a", "f4"), ("b", object)]), allow_pickle=True)
    with pytest.raises(ConfigError, match="dtype"):
        load_array_file(tmp_path / "records.npy")

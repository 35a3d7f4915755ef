"""Archives through the live code path: tables, dead letters, exit codes; and all real alerts."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated import OWN_SCHEMAS, packets, untrained

from dgl_broker.cli import main
from dgl_broker.model import save_bundle

DATA = Path(__file__).parent / "data" / "alerts"
BROKEN = {"121540793515135009", "516442330015015017", "516442805615015004", "test_alerts_Ia_Hsiao_v2_51"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Folders of bundles with random weights, by survey."""
    made = {}
    for survey in ("lsst", "ztf"):
        bundle = untrained(survey)
        made[survey] = str(tmp_path_factory.mktemp("bundles") / survey)
        save_bundle(made[survey], bundle.card, bundle.networks, bundle.fusion)
    return made


def replay(bundles, survey, out, *args):
    """Exit code, table and summary of a replay."""
    summary = out.with_suffix(".json")
    code = main(["replay", *map(str, args), "--survey", survey, "--bundle", bundles[survey], "--out", str(out),
                 "--summary", str(summary), "--quiet"])  # fmt: skip
    return code, pq.read_table(out), json.loads(summary.read_text())


def flattened(column):
    return [v for row in column for v in (row if isinstance(row, list) else [row])]


def dead_letters(out):
    index = out.with_suffix(".deadletters") / "index.jsonl"
    return [json.loads(line) for line in index.read_text().splitlines()] if index.exists() else []


def test_rows_and_dead_letters_are_what_was_consumed(bundles, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for n, (value, _) in enumerate(packets("lsst", 20)):
        (folder / f"{n:03d}.avro").write_bytes(value)
    (folder / "500.avro").write_bytes(b"\x00\x00\x00\x00\x09 nothing")
    (folder / "501.avro").write_bytes(packets("lsst", 20)[0][0][:500])
    code, table, summary = replay(bundles, "lsst", tmp_path / "s.parquet", folder, "--schemas", OWN_SCHEMAS)
    assert code == 0 and summary["consumed"] == 22 and summary["dead_lettered"] == 2
    assert table.num_rows == summary["scored"] + summary["refused"] == 20
    labels = sorted((label for _, label in packets("lsst", 20)), key=lambda label: (label["mjd_tai"], label["alert_id"]))
    assert table["alert_id"].to_pylist() == [label["alert_id"] for label in labels]
    # What is cut off behind its leading fields still has its place in time; what says nothing comes last.
    nothing, cut = reversed(dead_letters(tmp_path / "s.parquet"))
    assert [Path(d["source"]).name for d in (cut, nothing)] == ["501.avro", "500.avro"]
    kept = tmp_path / "s.deadletters" / cut["file"]
    assert kept.read_bytes() == (folder / "501.avro").read_bytes()


def test_dead_letters_of_an_earlier_replay_do_not_stay_beside_a_new_table(bundles, tmp_path):
    (tmp_path / "bad.avro").write_bytes(b"Obj\x01 no more")
    (tmp_path / "empty.avro").touch()
    out = tmp_path / "s.parquet"
    _, _, summary = replay(bundles, "ztf", out, tmp_path / "bad.avro", tmp_path / "empty.avro")
    assert summary["dead_lettered"] == len(dead_letters(out)) == 2
    assert [(tmp_path / "s.deadletters" / d["file"]).read_bytes() for d in dead_letters(out)] == [b"Obj\x01 no more", b""]
    good = DATA / "2475433850315015009.avro"
    _, table, summary = replay(bundles, "ztf", out, good)
    assert (summary["consumed"], table.num_rows, dead_letters(out)) == (1, 1, [])
    assert not (tmp_path / "s.deadletters").exists()


def test_a_row_that_no_survey_fits_is_kept_with_its_ids_exact(bundles, tmp_path):
    ids = [2**62 + 1, 2**53 + 1]
    pq.write_table(
        pa.table({"candid": ids, "score": [float("nan"), 1.0], "stamp": [b"\x00\xff", None]}), tmp_path / "t.parquet"
    )
    _, table, summary = replay(bundles, "ztf", tmp_path / "s.parquet", tmp_path / "t.parquet")
    assert (summary["dead_lettered"], table.num_rows) == (2, 0)
    letters = dead_letters(tmp_path / "s.parquet")
    kept = [json.loads((tmp_path / "s.deadletters" / d["file"]).read_bytes()) for d in letters]
    assert kept == [
        {"candid": str(ids[0]), "score": None, "stamp": "AP8="},
        {"candid": str(ids[1]), "score": 1.0, "stamp": None},
    ]


@pytest.mark.parametrize("option", [["--batch-size", "0"], ["--out", "."], ["--prevalence", "1"], ["--device", "tpu"]])
def test_options_that_make_no_sense_are_exit_code_2(bundles, tmp_path, capsys, option):
    code = main(["replay", str(DATA), "--survey", "ztf", "--bundle", bundles["ztf"], "--out", f"{tmp_path}/s.parquet", *option])
    assert code == 2 and option[0].strip("-") in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_replay_of_what_is_not_there_leaves_no_half_table(bundles, tmp_path, capsys):
    for option in ([], ["--companions"]):
        code = main(["replay", str(DATA / "2475433850315015009.avro"), str(tmp_path / "nowhere"), "--survey", "ztf", "--bundle",
                     bundles["ztf"], "--out", str(tmp_path / "s.parquet"), *option])  # fmt: skip
        assert code == 3 and "nowhere" in capsys.readouterr().err
        assert not list(tmp_path.glob("s.parquet*"))


def test_strict_says_that_something_was_dead_lettered(bundles, tmp_path):
    (tmp_path / "bad.avro").write_bytes(b"Obj\x01 no more")
    code, table, _ = replay(bundles, "ztf", tmp_path / "s.parquet", tmp_path / "bad.avro", "--strict")
    assert code == 8 and table.num_rows == 0


def test_the_batch_size_changes_no_row(bundles, tmp_path):
    tables = [replay(bundles, "ztf", tmp_path / f"{n}.parquet", DATA, "--batch-size", n)[1] for n in (1, 5, 256)]
    for other in tables[1:]:
        for name in tables[0].column_names:
            a, b = tables[0][name].to_pylist(), other[name].to_pylist()
            if name in ("log_odds", "spread", "posterior", "member_p_lsn") or name.startswith("p_"):
                # Property 2 of the design: log-odds to 1e-4, probabilities to 1e-6.
                tolerance = 1e-4 if name in ("log_odds", "spread") else 1e-6
                flat_a, flat_b = (np.array([v for v in flattened(column) if v is not None]) for column in (a, b))
                assert [v is None for v in flattened(a)] == [v is None for v in flattened(b)]
                assert np.abs(flat_a - flat_b).max(initial=0.0) < tolerance, name
            else:
                assert a == b, name


def test_ungated_writes_a_column_for_each_cut(tmp_path):
    args = (DATA, "--filters", "lensed_sn_ztf")
    bundles = {"ztf": "default"}  # the one that the shipped filter is tuned for
    _, gated, _ = replay(bundles, "ztf", tmp_path / "g.parquet", *args)
    _, ungated, _ = replay(bundles, "ztf", tmp_path / "u.parquet", *args, "--ungated")
    cuts = [c for c in ungated.column_names if c.startswith("cut.lensed_sn_ztf.")]
    assert len(cuts) >= 3 and not [c for c in gated.column_names if c.startswith("cut.")]
    refused = [r for r in gated.to_pylist() if (r["reason"] or "").startswith("precut.")]
    assert refused
    by_id = {r["alert_id"]: r for r in ungated.to_pylist()}
    for row in refused:
        assert by_id[row["alert_id"]][f"cut.lensed_sn_ztf.{row['reason'].removeprefix('precut.')}"] is False


def test_real_packets_of_the_repository_are_read_with_exact_ids(bundles, tmp_path):
    expected = list(csv.DictReader((DATA.parent / "alerts.csv").read_text().splitlines()))
    _, table, summary = replay(bundles, "ztf", tmp_path / "z.parquet", DATA)
    rows = {(Path(r["source"]).name, r["source_row"]): r for r in table.to_pylist()}
    ztf = [e for e in expected if e["survey"] == "ztf" and Path(e["file"]).stem not in BROKEN]
    assert len(ztf) >= 6
    for e in ztf:
        row = rows[e["file"], int(e["row"])]
        assert (str(row["alert_id"]), row["object_id"], row["band"]) == (e["alert_id"], e["object_id"], e["trigger_band"])
    assert summary["dead_lettered_by_reason"]["wrong_survey"] >= 2  # LSST's packets lie in the same folder


@pytest.mark.parametrize("survey, n_alerts", [("ztf", 322), ("lsst", 167)])
def test_every_collected_alert_is_scored_or_refused_and_the_broken_ones_kept(bundles, shared, tmp_path, survey, n_alerts):
    root = shared / "data" / "alerts"
    sources = [root / survey] if survey == "lsst" else [root / "ztf", root / "brokers" / "fink_ztf", root / "broken"]
    schemas = shared / "data" / "schemas" / "lsst"
    _, table, summary = replay(bundles, survey, tmp_path / "s.parquet", *sources, "--schemas", schemas)
    letters = dead_letters(tmp_path / "s.parquet")
    assert {Path(d["source"]).stem for d in letters} == (BROKEN if survey == "ztf" else set())
    assert all(d["reason"] in ("truncated", "bad_schema", "sync_marker") and d["error"] for d in letters)
    assert summary["consumed"] == n_alerts + len(letters) == table.num_rows + summary["dead_lettered"]
    with (root / "manifest.csv").open() as manifest:
        known = [m for m in csv.DictReader(manifest) if m["survey"] == survey]
    column = next(c for c in ("alert_id", "candid", "alertId", "id") if c in known[0])
    ids = sorted(int(m[column]) for m in known if m[column] and not m["file"].startswith("broken"))
    assert sorted(table["alert_id"].to_pylist()) == ids
    for row in table.to_pylist():
        assert row["status"] in ("scored", "refused") and (row["status"] == "scored") == (row["log_odds"] is not None)
        assert row["reason"] is not None or row["status"] == "scored"

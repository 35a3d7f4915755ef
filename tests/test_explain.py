"""Scores explained: made again from what was kept, compared, taken apart; and what differs is told, with exit 1."""

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import flow
from simulated import OWN_SCHEMAS, packets

from dgl_broker.archive.kept import KeptPackets
from dgl_broker.cli import main
from dgl_broker.explain.again import find_inputs
from dgl_broker.explain.compare import compare
from dgl_broker.explain.explanation import explain
from dgl_broker.explain.occlusion import occlude
from dgl_broker.explain.page import explanation_page
from dgl_broker.selection import read_filter
from dgl_broker.selection.audit import activate

DATA = Path(__file__).parent / "data" / "alerts"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Simulated LSST alerts replayed by a tiny bundle and a filter, all packets kept: the folder and the table's rows."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "in").mkdir()
    for n, (value, _) in enumerate(packets("lsst", 20)):
        (folder / "in" / f"{n:02d}.avro").write_bytes(value)
    bundle = flow.tiny_bundle(folder / "bundle", "lsst", 0.2)
    flow.filter_file(folder / "f.yaml", "lsst", {"is_positive": {"equals": True}}, 0.0, bundle.sha256)
    assert main(["replay", str(folder / "in"), "--survey", "lsst", "--schemas", str(OWN_SCHEMAS), "--bundle",
                 str(folder / "bundle"), "--filters", str(folder / "f.yaml"), "--out", str(folder / "s.parquet"), "--quiet",
                 "--keep-packets", "all"]) == 0  # fmt: skip
    return folder, pq.read_table(folder / "s.parquet").to_pylist()


def one(rows, status="scored"):
    """The row of this status with the most epochs."""
    return max((row for row in rows if row["status"] == status), key=lambda row: row["n_epochs"] or 0)


def run(folder, alert_id, *args, scores=None):
    out = folder / "page.html"
    code = main(["explain", str(scores or folder / "s.parquet"), str(alert_id), "--bundle", str(folder / "bundle"),
                 "--filters", str(folder / "f.yaml"), "--out", str(out), *map(str, args)])  # fmt: skip
    return code, out.read_text() if out.exists() else None


def changed(folder, tmp_path, alert_id, **values):
    """The table with one row changed, kept packets beside it."""
    rows = pq.read_table(folder / "s.parquet").to_pylist()
    schema = pq.read_schema(folder / "s.parquet")
    rows = [{**row, **values} if row["alert_id"] == alert_id else row for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "t.parquet")
    shutil.copytree(folder / "s.kept", tmp_path / "t.kept")
    return tmp_path / "t.parquet"


def test_a_score_is_made_again_and_shown(made, capsys):
    folder, rows = made
    row = one(rows)
    code, page = run(folder, row["alert_id"])
    said = capsys.readouterr().out
    assert code == 0 and "REPRODUCED" in said and "NOT REPRODUCED" not in said
    assert str(row["alert_id"]) in page and "Reproduced" in page and "What moved the score" in page
    for word in ("is_positive", "LoNet", "GloNet", "MuNet", row["message_id"], "Stamps", "Light curve", "Masked or missing"):
        assert word in page
    # From disk, without network: nothing is fetched and nothing runs.
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and "<script" not in page


def test_refused_alerts_are_explained_too(made):
    folder, rows = made
    refused = [row for row in rows if row["status"] == "refused"]
    for reason in {row["reason"] for row in refused}:
        row = next(r for r in refused if r["reason"] == reason)
        code, page = run(folder, row["alert_id"])
        assert code == 0 and reason in page
        assert "not\N{NO-BREAK SPACE}met" in page or not reason.startswith("precut.")


@pytest.mark.parametrize(
    "values, says",
    [
        ({"log_odds": 3.21}, "log_odds"), ({"p_lsn": 0.9}, "p_lsn"), ({"stratum": "other"}, "stratum"),
        ({"reason": "no_cutouts", "status": "refused"}, "status"), ({"bundle_sha256": "ab" * 32}, "bundle_sha256"),
        ({"verdicts": '[{"filter":"f","version":3,"passed":true,"failed":[{"criterion":"is_positive","value":null}]}]'},
         "verdict of f version 3"),
    ],
)  # fmt: skip
def test_what_differs_is_told_and_the_exit_code_is_1(made, tmp_path, capsys, values, says):
    folder, rows = made
    row = one(rows)
    scores = changed(folder, tmp_path, row["alert_id"], **values)
    code, page = run(folder, row["alert_id"], scores=scores)
    said = capsys.readouterr().out
    assert code == 1 and "NOT REPRODUCED" in said and says in said
    assert "could not be reproduced" in page and says in page


def test_what_rounding_may_move_is_no_difference(made, tmp_path):
    folder, rows = made
    row = one(rows)
    scores = changed(folder, tmp_path, row["alert_id"], log_odds=row["log_odds"] + 5e-5, p_lsn=row["p_lsn"] + 5e-7)
    assert run(folder, row["alert_id"], scores=scores)[0] == 0
    # Another device and half precision: 0.02, not more.
    for change, code in ((0.019, 0), (0.03, 1)):
        folder_of = tmp_path / str(change)
        folder_of.mkdir()
        values = {"device": "cuda:0 (H100)", "precision": "float16", "log_odds": 0.1 + 0 * row["log_odds"]}
        values["log_odds"] = row["log_odds"] + math.copysign(change, row["log_odds"])
        if abs(row["log_odds"]) > 2:
            values["log_odds"] = row["log_odds"] * (1 + change / 2.0)
        assert run(folder, row["alert_id"], scores=changed(folder, folder_of, row["alert_id"], **values))[0] == code


def test_a_packet_that_is_nowhere_is_told(made, tmp_path, capsys):
    folder, rows = made
    shutil.copy(folder / "s.parquet", tmp_path / "s.parquet")
    shutil.copy(folder / "f.yaml", tmp_path)
    code, page = run(tmp_path, one(rows)["alert_id"], "--packets", folder / "in" / "19.avro", "--schemas", OWN_SCHEMAS)
    assert code == 3 and "--packets" in capsys.readouterr().err and page is None
    assert main(["explain", str(folder / "s.parquet"), "12345"]) == 3
    assert main(["explain", str(tmp_path), "12345"]) == 3


def test_packets_may_be_searched_among_alerts(made, tmp_path):
    folder, rows = made
    shutil.copy(folder / "s.parquet", tmp_path / "s.parquet")
    shutil.copytree(folder / "bundle", tmp_path / "bundle")
    shutil.copy(folder / "f.yaml", tmp_path)
    code, _ = run(tmp_path, one(rows)["alert_id"], "--packets", folder / "in", "--schemas", OWN_SCHEMAS)
    assert code == 0


def test_a_bundle_of_another_hash_is_not_taken_in_silence(made, capsys):
    folder, rows = made
    code = main(["explain", str(folder / "s.parquet"), str(one(rows)["alert_id"]), "--filters", str(folder / "f.yaml")])
    assert code == 3 and "no bundle of hash" in capsys.readouterr().err


def test_an_earlier_version_of_a_filter_is_taken_from_its_log(made, tmp_path):
    folder, rows = made
    shutil.copy(folder / "f.yaml", tmp_path / "f.yaml")
    before = read_filter(tmp_path / "f.yaml")
    activate(tmp_path / "f.yaml", replace(before, threshold=5.0), "a test", "to see", before.version)
    row = one(rows)
    found = find_inputs(row, folder / "s.parquet", filters=[tmp_path / "f.yaml"])
    assert [(f.name, f.version, f.threshold) for f in found.filters] == [("f", before.version, 0.0)] and not found.missing
    row = {**row, "verdicts": row["verdicts"].replace('"version":3', '"version":9')}
    assert "version 9" in find_inputs(row, folder / "s.parquet", filters=[tmp_path / "f.yaml"]).missing[0]


def test_the_worth_of_a_part_is_what_the_score_loses_without_it(made):
    folder, rows = made
    row = one(rows)
    found = explain(folder / "s.parquet", row["alert_id"], bundle=folder / "bundle", filters=[folder / "f.yaml"])
    occlusion = found.occlusion
    assert occlusion.log_odds == pytest.approx(row["log_odds"], abs=1e-4)
    # By hand: a night's points taken out of the alert, and the alert scored alone.
    from dgl_broker.explain.again import make_scorer

    scorer = make_scorer(found.found, found.bundle)
    alert = found.outcome.alert
    night = occlusion.epochs[-1]
    near = np.abs(alert.light_curve.mjd_tai - alert.mjd_tai - night.days) < 0.5
    near &= ~(np.abs(alert.light_curve.mjd_tai - alert.mjd_tai) < 1e-6)
    curve = type(alert.light_curve)(*(getattr(alert.light_curve, n)[~near] for n in alert.light_curve.__slots__))
    (without,) = scorer.build_examples([replace(alert, light_curve=curve)], [{}])
    from dgl_broker.example import stack

    score = float(scorer.ensemble.score(stack([without]), [without.completeness.strata]).log_odds[0])
    assert night.worth.delta == pytest.approx(row["log_odds"] - score, abs=2e-4)
    assert sum(len(e.bands) > 0 for e in occlusion.epochs) == len(occlusion.epochs)
    # Blocks outside of which all is masked anyway move nothing.
    assert occlusion.pixels.shape[0] * occlusion.block_px >= occlusion.side and np.isfinite(occlusion.pixels).all()
    again = occlude(scorer, alert, {})
    assert np.array_equal(again.pixels, occlusion.pixels)


def test_companions_as_they_were_used_make_the_score_again(tmp_path):
    """A bundle with planes for companions: their stamps are kept, without them the score is another."""
    import made_up_bundles

    from dgl_broker.model import save_bundle, untrained_bundle

    card = made_up_bundles.tiny_card(id="with_companions", survey="lsst")
    card["input"]["image"] |= {"planes": ["template", "difference", *(f"template:{b}" for b in "ugrizy")]}
    bundle = untrained_bundle("lsst", card=card)
    save_bundle(tmp_path / "bundle", bundle.card, bundle.networks, bundle.fusion)
    (tmp_path / "in").mkdir()
    for n, (value, _) in enumerate(packets("lsst", 20)):
        (tmp_path / "in" / f"{n:02d}.avro").write_bytes(value)
    assert main(["replay", str(tmp_path / "in"), "--survey", "lsst", "--schemas", str(OWN_SCHEMAS), "--bundle",
                 str(tmp_path / "bundle"), "--out", str(tmp_path / "s.parquet"), "--quiet", "--keep-packets", "all",
                 "--companions"]) == 0  # fmt: skip
    rows = [r for r in pq.read_table(tmp_path / "s.parquet").to_pylist() if r["companion_alert_ids"]]
    assert rows
    found = explain(tmp_path / "s.parquet", rows[0]["alert_id"], bundle=tmp_path / "bundle")
    assert found.comparison.reproduced and found.comparison.log_odds_now == pytest.approx(rows[0]["log_odds"], abs=1e-6)
    assert any(w.name.startswith("companion in") for w in found.occlusion.inputs)
    assert "Companion in" in explanation_page(found)
    code = main(["explain", str(tmp_path / "s.parquet"), str(rows[0]["alert_id"]), "--bundle", str(tmp_path / "bundle"),
                 "--packets", str(tmp_path / "in"), "--schemas", str(OWN_SCHEMAS), "--out",
                 str(tmp_path / "p.html")])  # fmt: skip
    assert code == 1 and "companion_alert_ids" in (tmp_path / "p.html").read_text()


def test_real_alerts_by_the_shipped_bundle_and_filter_are_found_by_hash(tmp_path):
    out = tmp_path / "z.parquet"
    assert main(["replay", str(DATA), "--survey", "ztf", "--filters", "lensed_sn_ztf", "--out", str(out), "--quiet",
                 "--keep-packets", "all"]) == 0  # fmt: skip
    with KeptPackets.beside(out) as kept:
        ids = kept.ids()
    found = explain(out, ids[0][1], survey="ztf")
    assert found.comparison.reproduced and [f.name for f in found.found.filters] == ["lensed_sn_ztf"]
    table = pq.read_table(out).to_pylist()
    row = next(r for r in table if r["alert_id"] == ids[0][1])
    assert not compare({**row, "n_epochs": row["n_epochs"] + 1}, found.outcome, _Bundle(row)).reproduced


class _Bundle:
    def __init__(self, row):
        self.bundle_id, self.bundle_sha256 = row["bundle_id"], row["bundle_sha256"]

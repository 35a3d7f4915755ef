"""`dgl-broker inspect` on real packets of `tests/data` and on packets made wrong on purpose."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_alerts import light_curve, lsst_alert

from dgl_broker.alert import UPPER_LIMIT, Message
from dgl_broker.cli import main
from dgl_broker.cli.inspect import Inspection, inspect_message, pick_message
from dgl_broker.cli.inspect_page import inspection_page
from dgl_broker.cli.inspect_text import print_inspection, printable, sparkline
from dgl_broker.errors import ConfigError, NotScorable, PacketError
from dgl_broker.html.markup import Markup

DATA = Path(__file__).parent / "data"
ROWS = list(csv.DictReader((DATA / "alerts.csv").read_text().splitlines()))
SELF_CONTAINED = [r for r in ROWS if r["object_id"] != "?" and not r["schema"].startswith("id=")]


def run(capsys, *argv):
    code = main(["inspect", *map(str, argv)])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize("row", SELF_CONTAINED, ids=lambda r: r["alert_id"])
def test_real_packets_are_told_in_words_and_as_a_page(row, capsys, tmp_path):
    page = tmp_path / "page.html"
    code, out, _ = run(capsys, DATA / "alerts" / row["file"], "--row", row["row"], "--out", page)
    assert code == 0
    assert re.search(rf"^  alert +{row['alert_id']}$", out, re.M)
    assert re.search(rf"band {row['trigger_band']}$", out, re.M)
    text = page.read_text(encoding="utf-8")
    root = ET.fromstring(text.removeprefix("<!doctype html>\n"))
    assert row["alert_id"] in root.find("body/header/h1").text
    assert str(page) in out.splitlines()[-1]
    if row["object_id"].startswith("ZTF"):
        assert row["object_id"] in out
    if row["cut"]:
        assert "data:image/png;base64," in text


def test_says_the_numbers_of_a_packet(capsys, tmp_path):
    # 1105522281015015000: g, 14.92 mag, positive; so 10 ** (0.4 * (31.4 - 14.92)) nJy = 3908 microjansky within the rounding
    _, out, _ = run(capsys, DATA / "alerts" / "1105522281015015000.avro", "--out", tmp_path / "p.html")
    flux = float(re.search(r"difference flux +([\d.]+) ±", out)[1])
    assert flux == pytest.approx(3908, rel=0.006)
    assert "AB 14.92" in out
    assert re.search(r"in the packet +3 detections .*; 10 upper limits", out)
    assert "RA 185.728848, Dec +15.823617 deg" in out


def test_a_solar_system_alert_is_not_scorable_and_says_so(capsys, tmp_path):
    name = "169298433291583519_169298433291583519.avro"
    code, out, _ = run(capsys, DATA / "alerts" / name, "--out", tmp_path / "p.html")
    assert code == 0 and "solar_system" in out and "Not scorable" in out
    assert "Not scorable" in (tmp_path / "p.html").read_text()


def test_an_undecodable_packet_says_why(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, DATA / "alerts" / "516442330015015017.avro")
    assert code == 0 and "cannot be read: truncated" in out and "dead letter" in out
    assert list(tmp_path.iterdir()) == []


def test_a_frame_without_its_schema_says_what_is_needed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, DATA / "alerts" / "7912941781254298.avro")
    assert code == 0 and "schema id 900" in out and "--schemas" in out


def test_a_path_that_is_not_there_is_exit_3(capsys, tmp_path):
    code, _, err = run(capsys, tmp_path / "none.avro")
    assert code == 3 and "none.avro" in err
    code, _, err = run(capsys, tmp_path)
    assert code == 3 and "folder" in err


def test_a_row_that_is_not_there_is_a_usage_error():
    path = DATA / "alerts" / "fink_transfer_20260305.avro"
    assert pick_message(path, 2).source_row == 2
    with pytest.raises(ConfigError, match="the file has 3 alerts"):
        pick_message(path, 3)
    with pytest.raises(ConfigError, match="0 or more"):
        pick_message(path, -1)


def test_the_page_lies_in_this_folder_by_default(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(capsys, DATA / "alerts" / "1105522281015015000.avro")
    assert [p.name for p in tmp_path.iterdir()] == ["inspect_1105522281015015000.html"]


def test_scores_of_a_bundle_are_shown_and_untrained_ones_marked(tmp_path):
    from dgl_broker.model import save_bundle, untrained_bundle
    from dgl_broker.selection import load_filter

    untuned = replace(load_filter("lensed_sn_ztf"), bundle_sha256=None)  # the shipped one belongs to the shipped bundle
    bundle = untrained_bundle("ztf", seed=3)
    save_bundle(tmp_path / "b", bundle.card, bundle.networks, bundle.fusion)
    message = pick_message(DATA / "alerts" / "1105522281015015000.avro")
    found = inspect_message(message, bundle=tmp_path / "b", filters=[untuned])
    assert found.outcome.status == "scored"
    out = io.StringIO()
    print_inspection(found, out)
    assert "they mean nothing" in out.getvalue() and f"{found.outcome.scores.bundle_sha256[:12]}" in out.getvalue()
    assert "Pre-cuts" in out.getvalue()
    page = inspection_page(found)
    assert "untrained" in page and "Class probabilities" in page and "lensed_sn_ztf" in page
    # What the page shows is what was scored: the same completeness from both ways.
    assert found.example.completeness == found.outcome.completeness


def inspection(alert, example=None, **changes):
    from dgl_broker.example import ExampleSpec, build_examples
    from dgl_broker.model.untrained import untrained_card

    spec = ExampleSpec.from_card(untrained_card("lsst"))
    found = Inspection(
        Message(b"x", source="by hand", source_row=0), alert=alert, spec=spec, no_bundle="no bundle was asked for"
    )
    found.example = example or build_examples([alert], spec)[0]
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def printed(found):
    out = io.StringIO()
    print_inspection(found, out)
    return out.getvalue()


def test_what_a_packet_says_cannot_steer_the_terminal_or_the_page():
    alert = lsst_alert(object_id="\x1b[2J[red]<script>", schema="lsst \x07 [/]", facts={"host_redshift": 0.3})
    text = printed(inspection(alert))
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]<script>" in text and "[/]" in text
    page = inspection_page(inspection(alert))
    assert "<script" not in page and isinstance(page, str) and not isinstance(page, Markup)
    assert printable("a\u202eb\n") == "a\ufffdb\ufffd"


def test_a_refusal_is_shown_with_its_reason():
    refusal = NotScorable("no_source", "lsst 5: S/N 1.2, the bundle needs 2.5")
    text = printed(inspection(lsst_alert(), refusal))
    assert "Not scorable" in text and "no_source" in text and "S/N 1.2" in text
    assert "no_source" in inspection_page(inspection(lsst_alert(), refusal))


def test_bytes_that_are_no_packet_show_how_they_begin():
    found = inspect_message(Message(b"\x7fELF" + bytes(30), source="x", source_row=0))
    assert isinstance(found.error, PacketError)
    assert "7f 45 4c 46" in printed(found) and ".ELF" in printed(found)


def test_a_light_curve_of_upper_limits_alone_is_told():
    curve = light_curve([60990.0, 60995.0], flux=0.0, kind=UPPER_LIMIT)
    text = printed(inspection(lsst_alert(curve=curve), NotScorable("n_detections", "none")))
    assert "no measured point" in text


def test_sparkline_puts_the_greatest_flux_of_each_column_in_its_place():
    days, flux = np.array([-10.0, -9.9, -5.0, 0.0]), np.array([0.0, 4.0, 8.0, 2.0])
    line = sparkline(days, flux, 0.0, 8.0, -10.0, 0.0, width=10)
    # 8 levels over 0..8: 4 -> the fifth, 8 -> the last, 2 -> the third
    assert line == "▅····█···▃"

"""Which candidates are reported: once a state, never more a night than the cap, and the same after any rebuild."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgl_broker.cli import main
from dgl_broker.errors import StateError
from dgl_broker.outputs.avro import load_schema, make_form
from dgl_broker.reports import Ledger, Rules
from dgl_broker.reports.ledger import REPORTED, SKIPPED, STATES, WITHHELD
from dgl_broker.reports.records import report_id, report_record, webhook_body
from dgl_broker.reports.rows import Night, Position, decode_row, encode_row, key_of, place_name, place_of
from dgl_broker.settings import check_settings
from dgl_broker.wire.records import read_record

GOLDEN = Path(__file__).parent / "golden"
RULES = Rules("ztf", max_per_night=3, brighter_mag=1.0)
# 2026-11-22T06:00 UTC: JD 2461366.75 by the Julian day's own formula (Meeus, ch. 7), MJD 61366.25; TAI is 37 s ahead.
NIGHT_22 = 61366.25
LARGEST = 2**63 - 1


def candidate(name="ZTF26a", mjd=NIGHT_22, band="g", magnitude=20.0, alert_id=1, **changes):
    """A record of the candidates topic."""
    record = {field["name"]: field.get("default") for field in load_schema("score")["fields"]}
    verdicts = [{"filter": "bright", "version": 3, "passed": True, "failed": []}]
    record |= {"survey": "ztf", "alert_id": alert_id, "object_id": name, "mjd_tai": mjd, "band": band, "magnitude": magnitude}
    record |= {"ra": 10.0, "dec": -3.0, "log_odds": 4.5, "status": "scored", "verdicts": verdicts, "message_id": f"m{alert_id}"}
    return record | changes


def decided(ledger, one):
    """The decision on one candidate, taken into the batch in hand."""
    decision = ledger.decide(one)
    ledger.take(decision)
    return decision


def decide(ledger, *candidates):
    """Outcomes, or states where reported, of candidates each in a batch of its own."""
    out = []
    for one in candidates:
        decision = decided(ledger, one)
        ledger.settle()
        out.append(decision.state if decision.outcome == REPORTED else decision.outcome)
    return out


def test_an_object_is_reported_once_in_each_state():
    ledger = Ledger(RULES)
    found = decide(
        ledger,
        candidate(band="g", magnitude=20.0),
        candidate(band="g", magnitude=20.0),  # the same once more
        candidate(band="g", magnitude=19.2, mjd=NIGHT_22 + 0.01),  # 0.8 mag: less than the limit
        candidate(band="r", magnitude=19.0, mjd=NIGHT_22 + 0.02),
        candidate(band="r", magnitude=19.0, mjd=NIGHT_22 + 0.03),
        candidate(band="i", magnitude=19.0, mjd=NIGHT_22 + 0.04),  # a third band confirms no more
        candidate(band="g", magnitude=19.0, mjd=NIGHT_22 + 0.05),
        candidate(band="r", magnitude=15.0, mjd=NIGHT_22 + 0.06),
    )
    assert found == ["new", "known", "known", "confirmed", "known", "known", "brighter", "known"]


def test_brighter_is_brighter_than_when_first_seen_in_the_same_band_and_later():
    ledger = Ledger(RULES)
    assert decide(ledger, candidate(band="g", magnitude=20.0), candidate(band="r", magnitude=18.0)) == ["new", "confirmed"]
    # Earlier than its first in g, so it has faded since; and red is not compared with green.
    assert decide(ledger, candidate(band="g", magnitude=18.0, mjd=NIGHT_22 - 0.1)) == ["known"]
    assert decide(ledger, candidate(band="r", magnitude=17.5, mjd=NIGHT_22 + 0.1)) == ["known"]
    decision = ledger.decide(candidate(band="r", magnitude=16.75, mjd=NIGHT_22 + 0.1))
    assert (decision.state, decision.brighter) == ("brighter", 1.25)


def test_object_without_magnitudes_is_never_brighter():
    ledger = Ledger(RULES)
    assert decide(ledger, candidate(magnitude=None), candidate(magnitude=15.0, mjd=NIGHT_22 + 1)) == ["new", "known"]
    old = candidate(mjd=NIGHT_22 + 2)  # of a version whose records had neither field
    del old["magnitude"], old["injected"]
    assert decide(ledger, old) == ["known"]


def test_cap_holds_back_what_comes_later_and_counts_each_once():
    ledger = Ledger(RULES)
    names = [f"o{n}" for n in range(5)]
    assert decide(ledger, *(candidate(n) for n in names)) == ["new"] * 3 + [WITHHELD] * 2
    assert decide(ledger, candidate("o4"), candidate("o3"), candidate("o0")) == ["again", "again", "known"]
    # A state of an object that was reported is held back as well.
    assert decide(ledger, candidate("o0", band="r"), candidate("o0", band="r")) == [WITHHELD, "again"]
    assert ledger.nights() == {"2026-11-22": Night(3, 3)} and ledger.nights()["2026-11-22"].would_have_passed == 6


def test_what_was_held_back_may_be_reported_in_a_later_night():
    ledger = Ledger(replace(RULES, max_per_night=1))
    assert decide(ledger, candidate("a"), candidate("b"), candidate("b", mjd=NIGHT_22 + 1)) == ["new", WITHHELD, "new"]
    assert ledger.nights() == {"2026-11-22": Night(1, 1), "2026-11-23": Night(1, 0)}
    # And a late alert of the first night finds its cap still full.
    assert decide(ledger, candidate("c")) == [WITHHELD]


def test_cap_raised_in_the_night_reports_what_was_held_back_and_counts_it_once():
    ledger = Ledger(replace(RULES, max_per_night=1))
    decide(ledger, candidate("a"), candidate("b"), candidate("c"))
    ledger.rules = replace(RULES, max_per_night=2)
    decision = decided(ledger, candidate("b"))
    ledger.settle()
    assert (decision.outcome, decision.number, decision.withheld) == (REPORTED, 2, 1)
    assert ledger.nights()["2026-11-22"] == Night(2, 1)
    ledger.rules = replace(RULES, max_per_night=1)  # lowered again: nothing is taken back, and nothing more reported
    assert decide(ledger, candidate("d")) == [WITHHELD]


@pytest.mark.parametrize(
    ("survey", "mjd", "night"),
    [
        # 23:59:59 and 00:00:01 UTC of 23 November; TAI is 37 s ahead of UTC (IERS Bulletin C).
        ("ztf", 61367.0 + (37 - 1) / 86400, "2026-11-22"),
        ("ztf", 61367.0 + (37 + 1) / 86400, "2026-11-23"),
        ("lsst", 61367.0 + (37 + 1) / 86400, "2026-11-22"),
        ("lsst", 61367.5 + (37 - 1) / 86400, "2026-11-22"),
        ("lsst", 61367.5 + (37 + 1) / 86400, "2026-11-23"),
    ],
)
def test_a_night_is_the_utc_date_for_ztf_and_twelve_hours_earlier_for_rubin(survey, mjd, night):
    assert Ledger(replace(RULES, survey=survey)).decide(candidate(mjd=mjd)).night == night


def test_injected_alerts_are_never_reported():
    ledger = Ledger(RULES)
    assert decide(ledger, candidate(injected=True), candidate(injected=False)) == ["injected", "new"]
    # Nor do they confirm a real one.
    assert decide(ledger, candidate(injected=True, band="r"), candidate(injected=True, magnitude=1.0)) == ["injected"] * 2


def test_threshold_and_filters_of_the_reports():
    ledger = Ledger(replace(RULES, min_log_odds=0.0, filters=frozenset({"strict", "bright"})))
    other = [{"filter": "loose", "version": 1, "passed": True}, {"filter": "strict", "version": 1, "passed": False}]
    low, none, exact = candidate(log_odds=-0.1), candidate(log_odds=None), candidate(log_odds=0.0)
    assert decide(ledger, low, none, candidate(verdicts=other), candidate(verdicts=[])) == [
        "below_threshold", "below_threshold", "other_filter", "other_filter"
    ]  # fmt: skip
    assert decide(ledger, exact) == ["new"] and ledger.nights()["2026-11-22"] == Night(1, 0)
    assert decide(ledger, candidate("x", mjd=None), candidate("x", mjd=float("nan"))) == ["no_time", "no_time"]


def test_decision_that_is_not_taken_leaves_no_trace():
    ledger = Ledger(RULES)
    assert ledger.decide(candidate("a")) == ledger.decide(candidate("a")) and ledger.changes() == {}


def test_batch_that_is_not_out_leaves_no_trace():
    ledger = Ledger(RULES)
    decide(ledger, candidate("a"))
    before = ledger.nights(), ledger.n_objects
    for name in "abcdef":
        decided(ledger, candidate(name, band="r"))
    assert ledger.changes()
    ledger.undo()
    assert (ledger.nights(), ledger.n_objects, ledger.changes()) == (*before, {})
    assert decide(ledger, candidate("b")) == ["new"]


def test_objects_that_were_only_held_back_are_forgotten_after_a_week_and_reported_ones_are_not():
    ledger = Ledger(replace(RULES, max_per_night=1))
    decide(ledger, candidate("a"), *(candidate(f"w{n}") for n in range(50)))
    assert ledger.n_objects == 51
    decide(ledger, candidate("b", mjd=NIGHT_22 + 7), candidate("c", mjd=NIGHT_22 + 7))
    assert ledger.n_objects == 53
    decide(ledger, candidate("d", mjd=NIGHT_22 + 8))
    decided(ledger, candidate("e", mjd=NIGHT_22 + 8))
    assert sum(row is None for row in ledger.changes().values()) == 50
    ledger.settle()
    assert ledger.n_objects == 5  # a, b, c, d, e
    assert decide(ledger, candidate("a")) == ["known"]


def random_candidates(rng, n):
    """Of few objects, bands and nights, so that all states and the cap occur; out of order, and some twice."""
    made = []
    for number in range(n):
        made.append(
            candidate(
                f"o{rng.randrange(12)}",
                NIGHT_22 + rng.choice((0, 0.2, 1, 1.3, 2)),
                rng.choice("gri"),
                rng.choice((None, 15.0, 17.0, 18.0, 19.5, 20.0)),
                number,
                injected=rng.choice((None, None, None, True)),
            )
        )
        if rng.random() < 0.2:
            made.append(rng.choice(made))
    return made


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_cap_and_once_a_state_hold_whatever_comes_and_wherever_it_is_rebuilt(seed, cap):
    rng = random.Random(seed)
    rules = replace(RULES, max_per_night=cap)
    through, kept = Ledger(rules), {}
    rebuilt = Ledger(rules)
    reports, outcomes = [], Counter()
    for one in random_candidates(rng, 150):
        decision = decided(through, one)
        assert decision == decided(rebuilt, one)
        outcomes[decision.outcome] += 1
        if decision.outcome == REPORTED:
            reports.append((one["object_id"], decision.state, decision.night))
        kept |= dict(encode_row(key, row) for key, row in through.changes().items())
        through.settle()
        if rng.random() < 0.2:  # as after a crash: from the compacted topic alone
            rebuilt = Ledger(rules)
            for key, value in kept.items():
                rebuilt.put(*decode_row(key, value))
        else:
            rebuilt.settle()
    assert set(outcomes) <= {REPORTED, WITHHELD, *SKIPPED}
    assert max(Counter((o, s) for o, s, _ in reports).values()) == 1
    of_night = Counter(night for _, _, night in reports)
    assert max(of_night.values()) <= cap
    assert {night: row.reported for night, row in through.nights().items()} == of_night
    first = {}
    for o, s, _ in reports:
        first.setdefault(o, s)
    assert set(first.values()) == {"new"} and {s for _, s, _ in reports} <= set(STATES)


def test_rows_come_back_and_what_is_none_of_ours_stops():
    ledger = Ledger(RULES)
    decide(ledger, *(candidate(f"o{n}", alert_id=LARGEST) for n in range(4)), candidate("o1", band="r", magnitude=None))
    rows = {(kind, name): row for kind, of_kind in ledger._rows.items() for name, row in of_kind.items()}
    assert len(rows) == 5  # four objects, one night
    rows |= {key_of("position", place_name(("a.b-c[0]", 7))): Position(LARGEST), key_of("object", "gone"): None}
    for key, row in rows.items():
        assert decode_row(*encode_row(key, row)) == (key, row)
    assert place_of("a.b-c[0][7]") == ("a.b-c[0]", 7)
    for key, value in ((b"odd:x", b"{}"), (b"night:x", b"{}"), (b"night:x", b"not JSON"), (None, b"{}"), (b"\xff:x", b"{}")):
        with pytest.raises(StateError, match="cannot be read"):
            decode_row(key, value)
    with pytest.raises(StateError, match="later program"):
        decode_row(b"night:x", b'{"v":2,"reported":0,"withheld":0}')


def a_report():
    ledger = Ledger(RULES)
    decide(ledger, candidate("ZTF26abc", alert_id=LARGEST - 1, magnitude=20.0))
    one = candidate(
        "ZTF26abc", NIGHT_22 + 0.5, "g", 18.5, LARGEST, p_lsn=0.25, bundle_id="ztf", source="alerts[3]", source_row=17
    )
    return report_record(one, ledger.decide(one), RULES, published_ms=1_795_312_800_000)


def test_report_says_what_it_is_of_and_comes_back_exact():
    report = a_report()
    assert read_record(make_form("report", "t").encode(report)) == report
    assert [f["name"] for f in load_schema("report")["fields"]] != [] and set(report) == {
        f["name"] for f in load_schema("report")["fields"]
    }
    said = {name: report[name] for name in ("state", "alert_id", "new_alert_id", "number", "brighter_mag", "bands", "night")}
    assert said == {
        "state": "brighter", "alert_id": LARGEST, "new_alert_id": LARGEST - 1, "number": 2, "brighter_mag": 1.5, "bands": "g",
        "night": "2026-11-22",
    }  # fmt: skip
    assert report["message_id"] == report_id("ztf", "ZTF26abc", "brighter") != report_id("ztf", "ZTF26abc", "new")


def test_webhook_has_ids_as_text_and_a_line_for_people():
    body = json.loads(webhook_body(a_report()))
    assert body["alert_id"] == str(LARGEST) and body["new_alert_id"] == str(LARGEST - 1) and body["night"] == "2026-11-22"
    assert body["text"].startswith("ztf ZTF26abc: brighter by 1.5 mag, log odds 4.5, g = 18.5 mag at 10.00000 -3.00000")
    bare = {**a_report(), "state": "new", "magnitude": None, "ra": None, "dec": None, "log_odds": None, "new_alert_id": None}
    assert json.loads(webhook_body(bare))["text"].startswith("ztf ZTF26abc: new; 2 of at most 3")


def test_report_of_version_1_stays_readable():
    """A change of schemas/report.avsc that breaks this breaks every reader of what is on the topics already."""
    wanted = json.loads((GOLDEN / "report_v1.json").read_text())
    found = read_record((GOLDEN / "report_v1.avro").read_bytes())
    assert found == wanted
    now = {f["name"]: f for f in load_schema("report")["fields"]}
    assert set(wanted) <= set(now) and all("default" in f for name, f in now.items() if name not in wanted)


LEAST = "survey: ztf\nkafka: {bootstrap.servers: 'broker:9092'}\ninput: {topics: [alerts]}\n"


def checked(tmp_path, capsys, text, monkeypatch=None, **environ):
    """What `check-config` prints of this configuration, and its exit code."""
    (tmp_path / "broker.yaml").write_text(LEAST + text)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return main(["check-config", str(tmp_path / "broker.yaml")]), capsys.readouterr().out


def test_check_config_knows_the_reports(tmp_path, capsys, monkeypatch):
    filters = "filters: []\n"  # nothing to load
    wrong = "reports: {filters: [bright], max_per_night: 0, brighter_mag: .nan, webhok: x}\n"
    code, said = checked(tmp_path, capsys, filters + wrong)
    assert code == 2
    for key in ("reports.max_per_night:", "reports.brighter_mag:", "reports.webhok: found an unknown key"):
        assert f"\n{key}" in "\n" + said
    code, said = checked(tmp_path, capsys, filters + "reports: {filters: [bright]}\n")
    assert code == 2 and "reports.filters.0: found 'bright', expected the name of a filter in force: none" in said
    code, said = checked(tmp_path, capsys, filters + "reports: {webhook_token: hunter2}\n")
    assert code == 2 and "reports.webhook_token: found a secret in the file" in said and "hunter2" not in said
    code, said = checked(tmp_path, capsys, filters + "metrics: {reference: none.json}\n")
    assert code == 2 and "\nmetrics.reference: found" in "\n" + said
    environ = {"DGL_BROKER__REPORTS__WEBHOOK_TOKEN": "hunter2", "DGL_BROKER__REPORTS__WEBHOOK": "http://u.example.org/x"}
    code, said = checked(tmp_path, capsys, filters + "reports: {filters: []}\n", monkeypatch, **environ)
    assert code == 0 and "the token goes over the network unencrypted" in said and "hunter2" not in said


def test_topics_of_the_reports_are_none_of_the_others(tmp_path):
    path = tmp_path / "broker.yaml"
    path.write_text(LEAST + "reports: {topic: dgl.ztf.scores, state: alerts}\n")
    _, problems = check_settings(path, {})
    assert {p.key: p.expected for p in problems} == {
        "reports.topic": "another topic than output.scores has",
        "reports.state": "another topic than those that are read: it would feed itself",
    }


def test_topics_group_and_secrets_of_the_reports_have_their_defaults(tmp_path):
    path = tmp_path / "broker.yaml"
    path.write_text(LEAST.replace("'broker:9092'", "'b:1', group.id: us-dgl"))
    environ = {"DGL_BROKER__REPORTS__WEBHOOK": "https://u:swordfish@h/x", "DGL_BROKER__REPORTS__WEBHOOK_TOKEN": "hunter2"}
    found, problems = check_settings(path, environ)
    assert problems == [] and {"swordfish", "hunter2"} <= set(found.secrets()) and "hunter2" not in repr(found)
    assert (found.reports_topic, found.reports_state_topic) == ("dgl.ztf.reports", "dgl.ztf.reports.state")
    assert (found.reports_group_id, found.reports.max_per_night) == ("us-dgl-reports", 50)

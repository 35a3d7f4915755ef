"""Accounts, metrics, health, log and the closing summary."""

import io
import json
import logging
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_scorer import FakeScorer
from prometheus_client.parser import text_string_to_metric_families

from dgl_broker.alert import Message
from dgl_broker.errors import StateError
from dgl_broker.observe import Watch
from dgl_broker.observe.health import Health, serve
from dgl_broker.observe.log import set_up_log
from dgl_broker.observe.merged import MergedMetrics, told
from dgl_broker.observe.metrics import METRICS, Metrics
from dgl_broker.observe.progress import Progress, progress_text
from dgl_broker.observe.report_metrics import OWN as REPORTS
from dgl_broker.observe.summary import Accounts, AccountsDoNotBalance, Tally, summary_text, tally, write_summary

WORDS = ["scored", "candidate", "precut", "poor", "cut", "candidate"]


def outcomes(words=WORDS, timestamp_ms=None):
    return FakeScorer().score([Message(f"{n} {w}".encode(), "t", 0, n, None, timestamp_ms) for n, w in enumerate(words)])


def values(watch):
    """(Sample name, its labels' values in alphabetical order) -> value, by Prometheus' own parser."""
    families = text_string_to_metric_families(watch.metrics.text().decode())
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_tally_counts_each_outcome_once():
    one = tally(6, outcomes(), [SimpleNamespace(topic="s")] * 4)
    assert (one.consumed, one.scored, one.refused, one.dead_lettered, one.candidates) == (6, 3, 2, 1, 2)
    assert one.refused_by_reason == {"precut.faint": 1, "no_cutouts": 1}
    assert one.candidates_by_filter == {"bright": 2} and one.published == {"s": 4}


def test_injected_alerts_that_pass_are_counted_apart_and_are_no_candidates():
    mixed_in, synthetic, *others = outcomes(["candidate"] * 4)
    mixed_in.message = Message(mixed_in.message.value, source="injected:1", injected=True)
    synthetic.alert.facts["is_injected"] = True
    others[0].alert.facts["is_injected"] = False
    accounts = Accounts()
    accounts.settle(tally(4, [mixed_in, synthetic, *others]))
    summary = accounts.as_dict(ended="all read")
    assert (summary["scored"], summary["candidates"], summary["injected_passed"]) == (4, 2, 2)
    assert summary["candidates_by_filter"] == {"bright": 2}
    assert "injected alerts that pass, no candidates: 2" in summary_text(summary)


@pytest.mark.parametrize("consumed", [5, 7])
def test_batch_that_does_not_balance_is_an_error(consumed):
    with pytest.raises(AccountsDoNotBalance, match=f"consumed {consumed}, but 6 outcomes"):
        tally(consumed, outcomes())


def test_outcome_of_an_unknown_kind_does_not_balance():
    odd = outcomes()
    odd[0].status = "mislaid"
    with pytest.raises(AccountsDoNotBalance):
        tally(6, odd)


def test_summary_balances_and_has_the_promised_keys(tmp_path):
    accounts = Accounts()
    for _ in range(3):
        accounts.settle(tally(6, outcomes()))
    accounts.expired = 4
    summary = accounts.as_dict(ended="all read")
    promised = {"consumed", "scored", "refused", "dead_lettered", "expired", "candidates", "refused_by_reason"}
    assert promised <= set(summary)
    assert summary["consumed"] == summary["scored"] + summary["refused"] + summary["dead_lettered"] == 18
    write_summary(summary, tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text()) == summary
    text = summary_text(summary)
    assert "consumed 18 = scored 9 + refused 6 + dead-lettered 3" in text and "expired before they were read 4" in text
    assert "no_cutouts 3" in text and "ended: all read" in text


def test_summary_that_cannot_be_written_is_a_disk_error(tmp_path):
    with pytest.raises(StateError):
        write_summary({}, tmp_path / "none" / "s.json")


def test_metrics_follow_the_accounts():
    watch = Watch()
    for _ in range(2):
        these = outcomes(timestamp_ms=1)
        watch.settle(watch.tally(6, these, [SimpleNamespace(topic="s")] * 4), these)
    watch.spent(score=0.5)
    watch.failed("kafka")
    found = values(watch)
    assert found["dgl_consumed_total",] == 12 and found["dgl_scored_total",] == 6
    assert found["dgl_refused_total", "precut.faint"] == 2 and found["dgl_dead_lettered_total", "truncated"] == 2
    assert found["dgl_candidates_total", "bright"] == 4 and found["dgl_published_total", "s"] == 8
    assert found["dgl_batch_alerts_sum",] == 12 and found["dgl_latency_seconds_count",] == 12
    assert found["dgl_stage_seconds_sum", "score"] == 0.5 and found["dgl_log_odds_count",] == 6
    assert found["dgl_service_failures_total", "kafka"] == 1
    outcomes_total = sum(
        v for k, v in found.items() if k[0] in ("dgl_scored_total", "dgl_refused_total", "dgl_dead_lettered_total")
    )
    assert outcomes_total == found["dgl_consumed_total",]


def test_lag_of_partitions_that_were_given_up_is_taken_away():
    watch = Watch()
    source = SimpleNamespace(holds_partitions=True, assigned={("t", 0)}, expired=3, lag=lambda: {("t", 0): 5, ("t", 1): 7})
    watch.beat(source)
    assert values(watch)["dgl_lag", "1", "t"] == 7 and values(watch)["dgl_expired_total",] == 3 and watch.lag == 12
    watch._next_lag = 0.0
    source.lag, source.expired = lambda: {("t", 0): 1}, 4
    watch.beat(source)
    assert ("dgl_lag", "1", "t") not in values(watch) and values(watch)["dgl_expired_total",] == 4


def test_filters_in_force_replace_those_before():
    watch, scorer = Watch(), FakeScorer()
    watch.take_scorer(scorer)
    scorer.filters[0].version = 4
    watch.take_scorer(scorer)
    assert {k for k in values(watch) if k[0] == "dgl_filter_info"} == {("dgl_filter_info", "4", "bright")}


def test_metrics_of_several_workers_are_one_page():
    own, workers = Metrics(), [Metrics(), Metrics()]
    merged = MergedMetrics(own)
    for n, one in enumerate(workers):
        one["dgl_consumed_total"].inc(100)  # the supervisor's own to count
        one["dgl_batch_alerts"].observe(5 + n)
        one["dgl_stage_seconds"].labels("score").observe(0.25)
        one["dgl_expired_total"].inc(n)
        one["dgl_workers"].set(1)
        one["dgl_last_batch_timestamp_seconds"].set(1000 + n)
        one.set_rows("dgl_lag", {("t", n): 7})
        one.set_info("dgl_bundle_info", "fake", "ab")
        merged.take(n, json.loads(json.dumps(told(one))))
    own["dgl_consumed_total"].inc(3)
    found = values(SimpleNamespace(metrics=merged))
    assert found["dgl_consumed_total",] == 3 and found["dgl_expired_total",] == 1 and found["dgl_workers",] == 2
    assert (found["dgl_batch_alerts_count",], found["dgl_batch_alerts_sum",]) == (2, 11)
    assert found["dgl_stage_seconds_sum", "score"] == 0.5 and found["dgl_stage_seconds_bucket", "+Inf", "score"] == 2
    assert found["dgl_lag", "0", "t"] == found["dgl_lag", "1", "t"] == 7
    assert found["dgl_bundle_info", "ab", "fake"] == 1 and found["dgl_last_batch_timestamp_seconds",] == 1001
    # What a dead worker had counted stays, what it held does not; its successor counts from zero.
    merged.retire(0)
    workers[0] = Metrics()
    workers[0]["dgl_batch_alerts"].observe(1)
    merged.take(0, told(workers[0]))
    found = values(SimpleNamespace(metrics=merged))
    assert (found["dgl_batch_alerts_count",], found["dgl_batch_alerts_sum",]) == (3, 12)
    assert ("dgl_lag", "0", "t") not in found and found["dgl_workers",] == 1
    assert merged.total("dgl_batch_alerts") > 0 and merged.total("dgl_expired_total") == 1


def test_every_metric_is_on_the_page_of_several_workers_too():
    merged = MergedMetrics(Metrics())
    merged.take(0, told(Metrics()))

    def types(page):
        return {line for line in page.decode().splitlines() if line.startswith("# TYPE") and "_created" not in line}

    assert types(merged.text()) == types(Metrics().text())


def test_tally_comes_back_from_json():
    one = tally(6, outcomes(), [SimpleNamespace(topic="s")] * 4)
    assert Tally.from_dict(json.loads(json.dumps(one.as_dict()))) == one


def test_accounts_of_a_rekey_tell_what_was_written():
    accounts = Accounts(done="written")
    accounts.settle(Tally(consumed=5, written=3, refused=1, dead_lettered=1))
    summary = accounts.as_dict()
    assert summary["written"] == 3 and not {"scored", "candidates"} & set(summary)
    assert summary_text(summary).startswith("consumed 5 = written 3 + refused 1 + dead-lettered 1\nexpired")
    with pytest.raises(AccountsDoNotBalance):
        accounts.settle(Tally(consumed=5, written=3))


def test_page_of_metrics_lists_each_with_type_and_labels():
    page = (Path(__file__).parents[1] / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(dgl_(?!serve_)\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.M)
    known = METRICS | REPORTS
    assert [row[0] for row in rows] == list(known)
    for name, kind, labels, doc in rows:
        wanted = known[name]
        assert kind == wanted.kind.__name__.lower() and doc == wanted.doc
        assert tuple(re.findall(r"`(\w+)`", labels)) == wanted.labels
    # And the code has no metric that the table lacks.
    source = "".join(p.read_text() for p in (Path(__file__).parents[1] / "dgl_broker").rglob("*.py"))
    named = {name for name in re.findall(r'"(dgl_[a-z_]+)"', source) if not name.startswith(("dgl_broker", "dgl_serve"))}
    assert named == set(known)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def served():
    health, metrics, servers = Health(), Metrics(), []

    def start(port):
        servers.append(serve(health, metrics, "127.0.0.1", port))
        return servers[-1].server_port

    yield health, start
    for server in servers:
        server.shutdown()
        server.server_close()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_pages_are_served_and_ready_needs_every_condition(served):
    health, start = served
    base = f"http://127.0.0.1:{start(free_port())}"
    status, text = get(f"{base}/metrics")
    assert status == 200 and "dgl_consumed_total" in text
    assert get(f"{base}/healthz")[0] == 200 and get(f"{base}/readyz")[0] == 503
    for condition in ("bundle", "partitions", "schemas"):
        assert get(f"{base}/readyz")[0] == 503
        health.set(condition, True)
    status, text = get(f"{base}/readyz")
    assert status == 200 and json.loads(text)["partitions"] is True
    health._beat -= 1e4
    assert get(f"{base}/healthz")[0] == 503 and get(f"{base}/readyz")[0] == 503
    assert get(f"{base}/other")[0] == 404


def test_port_that_is_taken_gives_the_next_free_one_and_says_so(served, caplog):
    _, start = served
    port = free_port()
    assert start(port) == port
    with caplog.at_level(logging.WARNING):
        second = start(port)
    assert port < second < port + 100
    assert f"metrics port {port} is taken; serving on {second}" in caplog.text


def test_host_that_is_not_ours_is_a_state_error():
    with pytest.raises(StateError, match="metrics.port"):
        serve(Health(), Metrics(), "203.0.113.7", 9)  # TEST-NET-3, RFC 5737


@pytest.fixture
def logger():
    return logging.getLogger("dgl_broker.test")


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_secret_is_logged_not_even_in_a_traceback(logger, style):
    stream = io.StringIO()
    set_up_log(style, "info", ["hunter2", "hunter2-longer", ""], stream)
    logger.info("password is %s, or hunter2-longer", "hunter2")
    try:
        raise ValueError("hunter2 was refused")
    except ValueError:
        logger.exception("failed with %r", {"sasl.password": "hunter2"})
    logging.getLogger("librdkafka").warning("SASL hunter2")
    text = stream.getvalue()
    assert "hunter2" not in text and "longer" not in text and text.count("***") >= 5 and "ValueError" in text


def test_json_lines_are_json(logger):
    stream = io.StringIO()
    set_up_log("json", "info", stream=stream)
    logger.warning('a "quoted" thing\nin two lines')
    logger.debug("not at this level")
    (line,) = stream.getvalue().splitlines()
    one = json.loads(line)
    assert one["level"] == "warning" and one["message"] == 'a "quoted" thing\nin two lines' and one["time"].endswith("Z")


def test_progress_is_silent_where_there_is_no_terminal():
    stream, accounts = io.StringIO(), Accounts()
    with Progress(stream) as progress:
        progress(accounts, 5)
    assert stream.getvalue() == ""
    accounts.settle(tally(6, outcomes()))
    assert progress_text(accounts, 12345).endswith("12,345 behind")
    assert "6 consumed  3 scored  2 refused  1 dead-lettered  2 candidates" in progress_text(accounts, None)


def test_progress_counts_along_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream, accounts = Terminal(), Accounts()
    accounts.settle(tally(6, outcomes()))
    with Progress(stream) as progress:
        progress(accounts, 5)
    assert "6 consumed" in stream.getvalue()

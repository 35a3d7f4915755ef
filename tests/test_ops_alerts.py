"""Alert rules and the dashboard: every metric and label that they name is exported, and promtool finds nothing wrong."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from dgl_broker.observe.metrics import METRICS, Metrics
from dgl_broker.observe.report_metrics import OWN as REPORTS
from dgl_broker.observe.service_metrics import SERVE_METRICS

ROOT = Path(__file__).parents[1]
RULES = ROOT / "ops/prometheus/dgl-broker.rules.yaml"
DASHBOARD = ROOT / "ops/grafana/dgl-broker.json"
KNOWN = METRICS | SERVE_METRICS | REPORTS
TARGET_LABELS = {"job", "instance"}  # Prometheus' own, of every series
# Of PromQL (prometheus.io/docs, querying): what a word may be beside a metric or a label.
FUNCTIONS = {
    "absent", "changes", "clamp_min", "count", "deriv", "histogram_quantile", "increase", "max", "max_over_time", "min",
    "min_over_time", "rate", "sum", "time", "topk", "vector",
}  # fmt: skip
OPERATORS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"}
TOKEN = re.compile(
    r'\s+|"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\d+(?:\.\d+)?(?:e[+-]?\d+)?[smhdw]?|[A-Za-z_:][\w:]*|=~|!~|[=!<>]=?|[-+*/%^(){},]'
)


def series():
    """Name of every series that Prometheus sees -> its labels, of a page on which everything was counted once."""
    page = Metrics(KNOWN)
    for name, definition in KNOWN.items():
        metric = page[name].labels(*definition.labels) if definition.labels else page[name]
        {Counter: lambda m: m.inc(), Gauge: lambda m: m.set(1), Histogram: lambda m: m.observe(1)}[definition.kind](metric)
    families = text_string_to_metric_families(page.text().decode())
    return {"up": set()} | {sample.name: set(sample.labels) for family in families for sample in family.samples}


def tokens(expression):
    """The words of an expression; ValueError where it has something that PromQL does not, or brackets that do not match."""
    at, out, open_ = 0, [], []
    while at < len(expression):
        found = TOKEN.match(expression, at)
        if found is None or found.end() == at:
            raise ValueError(f"{expression[at : at + 20]!r} in {expression}")
        text, at = found.group(), found.end()
        if text.isspace():
            continue
        if text in "({":
            open_.append(text)
        elif text in ")}" and (not open_ or open_.pop() != {")": "(", "}": "{"}[text]):
            raise ValueError(f"brackets of {expression}")
        out.append(text)
    if open_:
        raise ValueError(f"brackets of {expression}")
    return out


def check_expression(expression, recorded):
    """Nothing, if every metric of it is exported, and every label stands on one of them."""
    known, words = series() | recorded, tokens(expression)
    metrics, labels = set(), set()
    inside, grouping = False, False  # a selector's braces; a `by (...)`
    for n, word in enumerate(words):
        following = words[n + 1] if n + 1 < len(words) else ""
        if word in "{}":
            inside = word == "{"
        elif word == "(":
            grouping = n > 0 and words[n - 1] in ("by", "without", "on", "ignoring", "group_left", "group_right")
        elif word == ")":
            grouping = False
        elif not re.match(r"[A-Za-z_:]", word) or word in OPERATORS:
            continue
        elif inside or grouping:
            labels.add(word)
        elif following == "(" or (word in FUNCTIONS and following in ("by", "without")):
            assert word in FUNCTIONS, f"{word} in {expression}"
        else:
            metrics.add(word)
    assert metrics, expression
    assert metrics <= set(known), f"{metrics - set(known)} in {expression}"
    allowed = TARGET_LABELS.union(*(known[m] for m in metrics))
    assert labels <= allowed, f"{labels - allowed} in {expression}"


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


RECORDED = {"dgl:lag:sum": {"topic"}, "dgl:dead_letter_share:10m": set()}


@pytest.mark.parametrize("rule", rules(), ids=lambda r: r.get("alert") or r["record"])
def test_rule_names_only_what_the_program_exports(rule):
    check_expression(rule["expr"], RECORDED)
    if "record" in rule:
        assert rule["record"] in RECORDED
        return
    assert rule["labels"]["severity"] in ("info", "warning", "critical") and set(rule["annotations"]) == {
        "summary", "description", "runbook"
    }  # fmt: skip
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / page).read_text(), re.M)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_what_the_issue_asks_for_has_an_alert():
    names = {rule["alert"] for rule in rules() if "alert" in rule}
    wanted = {"DglLagGrows", "DglDeadLetters", "DglNoOutput", "DglScoreDrift", "DglMismatch", "DglGpuAbsent"}
    assert wanted <= names


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(dgl_consumed)",
        "rate(dgl_log_odds_sum[5m])",  # a histogram with buckets below zero has no sum
        "rate(dgl_latency_seconds[5m])", 'sum by (reasons) (dgl_refused_total)', "sum(dgl_lag",
        'dgl_lag{filter="x"}', "summ(dgl_lag)", "dgl_lag ? 3", "sum(dgl_lag}",
    ],
)  # fmt: skip
def test_a_wrong_expression_is_found(wrong):
    with pytest.raises((AssertionError, ValueError)):
        check_expression(wrong, RECORDED)


def expressions():
    """(where, expression) of every query of the dashboard, its variable filled in."""
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for note in board["annotations"]["list"]:
        if "expr" in note:
            yield note["name"], note["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda x: x[:40])
def test_dashboard_asks_only_for_what_the_program_exports(where, expression):
    assert 'job=~"$job"' in expression
    check_expression(expression.replace("$__rate_interval", "5m"), {})


def test_dashboard_shows_every_metric_of_the_filter_and_of_the_reports():
    """One that is new and has no panel yet is named here, with the reason."""
    asked = " ".join(expression for _, expression in expressions())
    shown = {name for name in METRICS | REPORTS if re.search(rf"\b{name}(_bucket|_sum|_count)?\b", asked)}
    without_a_panel = set()
    assert set(METRICS | REPORTS) - shown == without_a_panel


def test_dashboard_is_laid_out_without_overlap():
    board = json.loads(DASHBOARD.read_text())
    taken, ids = set(), [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids)) and board["uid"] == "dgl-broker" and board["id"] is None
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or (panel["title"] and panel["description"])


@pytest.fixture(scope="module")
def promtool():
    """Prometheus' own checker."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("no promtool on PATH (Debian: prometheus); the rules were checked by the tests above alone")
    return path


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_nothing_wrong_and_each_rule_fires_when_it_should(promtool):
    assert f"SUCCESS: {len(rules())} rules found" in run(promtool, "check", "rules", RULES.name)
    assert "SUCCESS" in run(promtool, "test", "rules", "dgl-broker.rules.test.yaml")
    run(promtool, "check", "config", "scrape.yaml")
    tested = {t["alertname"] for one in yaml.safe_load((RULES.parent / "dgl-broker.rules.test.yaml").read_text())["tests"]
              for t in one["alert_rule_test"]}  # fmt: skip
    assert len(tested) >= 15 and {"DglLagGrows", "DglNoOutput", "DglGpuAbsent"} <= tested


def test_promtool_takes_every_query_of_the_dashboard(promtool, tmp_path):
    filled = [e.replace("$__rate_interval", "5m").replace("$job", "dgl-.+") for _, e in expressions()]
    groups = [{"name": "dashboard", "rules": [{"record": f"panel:n{n}", "expr": e} for n, e in enumerate(filled)]}]
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": groups}))
    assert f"SUCCESS: {len(filled)} rules found" in run(promtool, "check", "rules", str(path))

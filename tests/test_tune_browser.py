"""The tuning page in a real Chromium: the line moves, the guard holds, a running filter takes the change and gives it back.

Each page must end with an empty console and without a request to another host. A file of half a minute on a quiet machine: a
browser is started once, and a million scores are made, written and read.
"""

import re
import threading
import time
from collections import Counter

import numpy as np
import pytest
import requests
from browser import PATIENCE_MS, browser, page_of, until
from fake_scorer import FakeScorer, alert, scores
from kafka import flow
from tune_server import TOKEN, served
from tune_tables import BUNDLE, columns, write_all, write_filter, write_labels, write_table

from dgl_broker.scores import Outcome
from dgl_broker.selection import FilterSet, load_filter
from dgl_broker.selection.audit import activate
from dgl_broker.settings_model import Settings
from dgl_broker.stream.embedded import Feeder
from dgl_broker.stream.stopping import Stop
from dgl_broker.stream.worker import Worker
from dgl_broker.tune.alerts import read_alerts
from dgl_broker.tune.desk import Desk
from dgl_broker.tune.filter_file import FilterFile

pytestmark = pytest.mark.browser
MILLION = 1_000_000


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """(alerts, table) of five made-up nights."""
    table, labels, _, _ = write_all(tmp_path_factory.mktemp("night"), n_real=4000, n_lensed=100, n_negative=50)
    return read_alerts([table], labels), table


@pytest.fixture
def desk(night, tmp_path):
    """(desk over these nights, file of its filter): at most 60 candidates in a night, completeness at least 0.3."""
    path = write_filter(tmp_path / "f", threshold=3.0, floor=0.3, budget=60)
    return Desk([FilterFile(path)], night[0]), path


@pytest.fixture(scope="module")
def shown(chromium, night, tmp_path_factory):
    """(page, its address, file of its filter), one for all tests that change nothing; `look` opens it anew for each."""
    path = write_filter(tmp_path_factory.mktemp("shown") / "f", threshold=3.0, floor=0.3, budget=60)
    with served(Desk([FilterFile(path)], night[0])) as url, page_of(chromium) as page:
        yield page, url, path


@pytest.fixture
def look(shown):
    """As `shown`, with the line where it is in force."""
    page, url, _ = shown
    page.set_viewport_size({"width": 1366, "height": 768})
    opened(page, url)
    return shown


def opened(page, url):
    page.goto(url, wait_until="commit", timeout=PATIENCE_MS)
    page.wait_for_selector("body[data-ready=true]")
    return page


def settled(page, threshold=None):
    """Until the numbers are those of the line (or of this threshold); what they say."""
    wanted = "document.querySelector('#mark-words').dataset.score" if threshold is None else repr(str(threshold))
    until(page, f"document.body.dataset.threshold === {wanted}")
    until(page, "window.Plotly !== undefined")
    return {
        "threshold": float(page.evaluate("document.body.dataset.threshold")),
        "candidates": number(big(page, 0)),
        "completeness": number(big(page, 1)),
    }


def big(page, card):
    """The large number of a card, without its interval."""
    return page.locator("#numbers article").nth(card).locator(".big").evaluate("node => node.firstChild.textContent")


def number(text):
    """A number as the page writes it."""
    return float(re.sub(r"\s", "", text).replace("−", "-"))


def press(page, key, times=1):
    for _ in range(times):
        page.keyboard.press(key)


def test_the_count_falls_as_the_line_moves_up_by_keyboard(look):
    page, _, _ = look
    page.focus("#score")
    press(page, "Home")
    seen = [settled(page)]
    for _ in range(14):
        press(page, "PageUp", 2)
        seen.append(settled(page))
    press(page, "End")
    seen.append(settled(page))
    at = [s["threshold"] for s in seen]
    assert at == sorted(at) and len(set(at)) == 16
    for key in ("candidates", "completeness"):
        values = [s[key] for s in seen]
        assert values == sorted(values, reverse=True) and values[0] > 10 * values[-1]
    before = settled(page)["threshold"]
    press(page, "ArrowLeft")
    assert settled(page)["threshold"] == pytest.approx(before - 0.01)
    assert "candidates in the worst night" in page.get_attribute("#score", "aria-valuetext")


def test_the_numbers_are_those_of_the_api(look):
    page, url, _ = look
    page.fill("#value", "1.5")
    page.press("#value", "Enter")
    said = settled(page, 1.5)
    told = requests.post(f"{url}/api/v1/preview", json={"filter": "bright", "threshold": 1.5}, timeout=60).json()["proposed"]
    assert said["candidates"] == pytest.approx(told["candidates"]["mean"], rel=5e-3)
    assert said["completeness"] == pytest.approx(told["completeness"]["value"], abs=6e-3)
    cells = page.locator("#completeness tbody tr").nth(0).locator("td small").all_inner_texts()
    row = told["completeness"]["rows"][0]
    assert cells[0] == f"{row['found']} of {row['n']}" and len(cells) == 1 + sum(c["n"] > 0 for c in row["by_detections"])
    confusion = page.locator("#confusion tbody tr").nth(0).locator("td").all_inner_texts()
    assert [int(c) for c in confusion] == [row["found"], row["n"] - row["found"]]


def test_the_line_goes_to_an_operating_point(look):
    page, url, _ = look
    for metric, value in (("candidates_per_night", 20), ("completeness", 0.5), ("fpr", 0.1)):
        page.select_option("#metric", metric)
        page.fill("#value", str(value))
        page.press("#value", "Enter")
        body = {"filter": "bright", "operating_point": {"metric": metric, "value": value}}
        told = requests.post(f"{url}/api/v1/preview", json=body, timeout=60).json()
        settled(page, f"{told['threshold']:.15g}")
        until(page, "document.querySelector('#point').textContent.includes('measured on')")
        assert float(page.input_value("#score")) == pytest.approx(told["threshold"], abs=0.006)


def test_one_button_fills_the_nightly_budget(look):
    page, _, _ = look
    page.click("#fill")
    until(page, "document.querySelector('#point').textContent.includes('measured on 5 nights')")
    assert page.input_value("#value") == "60" and "✓" in page.locator("#guard li").nth(0).inner_text()
    worst = page.locator("#numbers article").nth(0).locator(".verdict").inner_text()
    assert 50 <= number(worst) <= 60


def test_dragging_in_the_histogram_and_clicking_the_curve_move_the_line(look):
    page, _, _ = look
    settled(page, 3)
    box = page.locator("#over").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 100, steps=6)
    page.mouse.up()
    dragged = settled(page)["threshold"]
    mark = page.locator("#mark").bounding_box()
    assert abs(mark["x"] - (box["x"] + 0.75 * box["width"])) < 3
    chosen = page.evaluate(
        """() => { const node = document.querySelector('#trade'); const n = 60;
                   node.emit('plotly_click', {points: [{curveNumber: 0, pointNumber: n}]}); return n; }"""
    )
    assert chosen == 60 and settled(page)["threshold"] != dragged


def test_the_guard_blocks_and_says_why(look):
    page, _, path = look
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.fill("#value", "-2")
    page.press("#value", "Enter")
    settled(page, -2)
    button = page.locator("#activate")
    assert button.get_attribute("aria-disabled") == "true" and button.inner_text() == "Refused by the guards"
    refused = page.locator("#guard li.no").inner_text()
    assert "nightly budget" in refused and "of at most 60" in refused
    page.fill("#reason", "more, more")
    button.focus()
    press(page, "Enter")
    page.wait_for_selector("#result.no")
    assert "expected at most max_candidates_per_night 60" in page.inner_text("#result")
    assert not any(address.endswith("/activate") for address in sent) and load_filter(path).version == 1
    page.fill("#value", "7")
    page.press("#value", "Enter")
    settled(page, 7)
    assert "completeness" in page.locator("#guard li.no").inner_text()
    assert page.locator("#numbers article.no").inner_text().startswith("Completeness")


class Judging(FakeScorer):
    """Every alert scores 2.5; the filters are real ones, read from their files while it runs."""

    bundle_sha256 = BUNDLE

    def __init__(self, filters):
        super().__init__()
        self.filters = filters

    def _one(self, message):
        one = alert(int(message.value), reliability=0.9, galactic_latitude_deg=40.0, is_positive=True, survey="ztf")
        said = scores(2.5)
        return Outcome("scored", message, alert=one, scores=said, verdicts=self.filters.judge(one.facts, said))


@pytest.fixture
def running(desk, mock_kafka):
    """The streaming filter on an embedded Kafka with the desk's filter; gives what it says of alerts that come now."""
    for topic in ("in", "dgl.ztf.scores", "dgl.ztf.candidates", "dgl.ztf.deadletters"):
        mock_kafka.create_topic(topic, 1)
    settings = Settings.model_validate(
        {
            "survey": "ztf",
            "kafka": {"bootstrap.servers": mock_kafka.bootstrap_servers},
            "input": {"topics": ["in"]},
            "batch": {"max_alerts": 10, "max_wait_s": 0.05},
        }
    )
    filters = FilterSet([load_filter(desk[1])])
    filters.check_bundle(BUNDLE)
    stop, numbers = Stop(), iter(range(1, 10_000))
    worker = Worker(settings, stop, scorer=Judging(filters))
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    feeder = Feeder(mock_kafka, "in", 1, settings.group_id)

    def verdict():
        """(version, passed) of an alert that is sent now."""
        mine = next(numbers)
        feeder.send(str(mine).encode())
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline:
            for record in flow.containers(flow.read_topic(mock_kafka.bootstrap_servers, "dgl.ztf.scores", "read_uncommitted")):
                if record["alert_id"] == mine:
                    (said,) = record["verdicts"]
                    return said["version"], said["passed"]
        raise AssertionError(f"alert {mine} has no record")

    yield verdict
    stop.ask()
    thread.join(60)
    feeder.close()


def test_activation_changes_the_running_filters_verdict_and_one_click_brings_it_back(chromium, desk, running):
    with served(desk[0]) as url, page_of(chromium) as page:
        assert running() == (1, False)  # 2.5 is below 3.0
        opened(page, url)
        page.fill("#value", "2.25")
        page.press("#value", "Enter")
        settled(page, 2.25)
        until(page, "document.querySelector('#activate').textContent === 'Activate version 2'")
        page.fill("#reason", "a cloudy week")
        page.fill("#who", "ana")
        page.fill("#token", TOKEN)
        page.press("#token", "Enter")
        until(page, "/in force on the worker/.test(document.querySelector('#result').textContent)")
        took = float(re.search(r"after ([\d.]+) s", page.inner_text("#result"))[1])
        assert running() == (2, True)
        assert load_filter(desk[1]).threshold == 2.25 and took < 60
        assert page.input_value("#reason") == ""
        until(page, "document.querySelector('#force').textContent.includes('version 2')")
        entry = page.locator("#history li").nth(0).inner_text()
        assert "version 2" in entry and "ana" in entry and "threshold 3 → 2.25" in entry and "a cloudy week" in entry
        page.get_by_role("button", name="Roll back to 1").click()
        until(page, "/Version 3 is in force on the worker/.test(document.querySelector('#result').textContent)")
        assert running() == (3, False) and load_filter(desk[1]).threshold == 3.0
        assert TOKEN not in page.content()


def test_a_bad_token_changes_nothing_and_is_said(chromium, desk):
    with served(desk[0]) as url, page_of(chromium, expected=("status of 401",)) as page:
        opened(page, url)
        page.fill("#value", "2.5")
        page.press("#value", "Enter")
        settled(page, 2.5)
        page.fill("#reason", "x")
        page.click("#activate")
        page.wait_for_selector("#result.no")
        assert "A token is needed" in page.inner_text("#result")
        page.fill("#token", "not the token")
        page.click("#activate")
        until(page, "/Not allowed/.test(document.querySelector('#result').textContent)")
        assert "the token is missing or wrong" in page.inner_text("#result") and load_filter(desk[1]).version == 1
        assert page.evaluate("document.activeElement.id") == "token"


def test_who_comes_second_is_told_and_sees_what_is_in_force(chromium, desk):
    with served(desk[0]) as url, page_of(chromium, expected=("status of 409",)) as page:
        opened(page, url)
        page.fill("#value", "2.5")
        page.press("#value", "Enter")
        settled(page, 2.5)
        page.evaluate("clearInterval(window.watching)")  # the page would notice by itself
        old = load_filter(desk[1])
        activate(desk[1], type(old)(**{**{k: getattr(old, k) for k in FIELDS}, "threshold": 2.0}), "bo", "first", 1)
        page.fill("#reason", "second")
        page.fill("#token", TOKEN)
        page.click("#activate")
        until(page, "/Someone else was quicker/.test(document.querySelector('#result').textContent)")
        until(page, "document.querySelector('#force').textContent.includes('version 2')")
        assert load_filter(desk[1]).threshold == 2.0


FIELDS = (
    "name", "version", "description", "survey", "bundle_sha256", "require", "score", "threshold", "operating_point",
    "completeness_floor", "max_candidates_per_night",
)  # fmt: skip


def test_a_pre_cut_shows_what_it_costs_and_saves_and_moves_the_counts(look):
    page, url, _ = look
    page.fill("#value", "1")
    page.press("#value", "Enter")
    settled(page, 1)
    told = requests.post(f"{url}/api/v1/preview", json={"filter": "bright", "threshold": 1.0}, timeout=60).json()
    cost = next(c for c in told["precuts"] if c["criterion"] == "reliability")
    row = page.locator("tr[data-cut=reliability]")
    until(page, f"document.querySelector('tr[data-cut=reliability] td.n').textContent === '{cost['lost']}'")
    assert cost["lost"] > 0 and number(row.locator("td.n").nth(1).inner_text()) == pytest.approx(
        cost["saved_per_night"], rel=5e-3
    )
    before = settled(page)["candidates"]
    row.locator("input[type=number]").fill("0.9")
    row.locator("input[type=number]").press("Enter")
    until(page, "document.querySelector('#proposal').textContent.includes('1 pre-cut changed')")
    assert settled(page)["candidates"] < before
    assert "changed" in page.get_attribute("tr[data-cut=reliability]", "class")
    page.get_by_label("use is_positive").uncheck()
    until(page, "document.querySelector('#proposal').textContent.includes('2 pre-cuts changed')")
    page.click("#cuts-back")
    until(page, "!document.querySelector('#proposal').textContent.includes('changed')")
    until(page, f"document.querySelector('tr[data-cut=reliability] td.n').textContent === '{cost['lost']}'")


def test_without_an_ungated_replay_the_page_says_what_is_missing(chromium, tmp_path):
    made = columns(n_real=200, n_lensed=0, n_negative=0)
    made["reason"] = np.where(made["fact.reliability"] < 0.2, "precut.reliability", None)
    made["log_odds"] = np.where(made["fact.reliability"] < 0.2, np.nan, made["log_odds"])
    path = write_filter(tmp_path / "f", floor="null")
    with (
        served(Desk([FilterFile(path)], read_alerts([write_table(tmp_path / "s.parquet", made)]))) as url,
        page_of(chromium) as page,
    ):
        opened(page, url)
        page.wait_for_selector("tr[data-cut=reliability]")
        assert page.locator("#cuts input:not([disabled])").count() == 0
        assert "replay with --ungated" in page.inner_text("#cuts-note")
        missing = page.inner_text("#missing")
        assert (
            "completeness is unknown" in missing
            and "pre-cuts cannot be changed here" in missing
            and "--keep-packets" in missing
        )
        assert page.locator("#numbers article").nth(1).locator(".big").inner_text() == "unknown"


def test_nights_and_the_alerts_at_the_line(look):
    page, url, _ = look
    page.fill("#value", "0")
    page.press("#value", "Enter")
    settled(page, 0)
    until(page, "document.querySelector('#line-words').textContent === 'the line: 0'")
    assert page.locator("#above li").count() == page.locator("#below li").count() == 12
    above, below = (page.locator(f"#{side} li b").all_inner_texts() for side in ("above", "below"))
    values = [number(t) for t in above + below]
    assert values == sorted(values, reverse=True) and min(values[:12]) >= 0 > max(values[12:])
    assert "was not kept" in page.inner_text("#line-note")
    page.select_option("#night", "2025-11-22")
    page.wait_for_selector("#night-list caption")
    told = requests.post(f"{url}/api/v1/night?night=2025-11-22", json={"filter": "bright", "threshold": 0.0}, timeout=60).json()
    assert page.locator("#night-list tbody tr").count() == len(told["objects"]) > 0
    with page.context.expect_page() as other:
        page.locator("#above li a").nth(0).click()
    other.value.wait_for_load_state("domcontentloaded")
    assert "/alert/ztf/" in other.value.url and "was not kept" in other.value.inner_text("main")


def test_dark_and_light_are_readable_and_kept(chromium, desk):
    with served(desk[0]) as url, page_of(chromium, colours="dark") as page:
        opened(page, url)
        settled(page, 3)
        assert contrast(page, "#numbers .big", "#numbers article") > 12  # as the screen: dark
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        for theme in ("light", "dark"):
            page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            for text, paper in (
                ("#numbers p", "#numbers article"),
                (".note", "main .card"),
                ("figcaption", "main .card"),
                ("#force", ".masthead"),
                ("#guard li", ".side .card"),
            ):
                assert contrast(page, text, paper) >= 4.5, (theme, text)  # WCAG 2.1, 1.4.3
        page.evaluate("document.documentElement.dataset.theme = 'light'")
        page.reload(wait_until="commit")
        page.wait_for_selector("body[data-ready=true]")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"


def contrast(page, text, paper):
    """Contrast of an element's text with the background of another."""

    def luminance(colour):
        rgb = np.array([float(v) for v in re.findall(r"[\d.]+", colour)[:3]]) / 255
        return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    style = "([at, key]) => getComputedStyle(document.querySelector(at))[key]"
    a, b = luminance(page.evaluate(style, [text, "color"])), luminance(page.evaluate(style, [paper, "backgroundColor"]))
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_it_fits_the_width_of_a_laptop(look):
    page, _, _ = look
    page.set_viewport_size({"width": 1440, "height": 800})
    settled(page, 3)
    until(page, "document.querySelectorAll('#above li').length > 0")
    for width in (1440, 1280, 1024, 780):
        page.set_viewport_size({"width": width, "height": 800})
        until(page, f"window.innerWidth === {width}")
        until(page, f"document.documentElement.scrollWidth <= {width}")
        for one in page.locator(".number .big").all():
            assert one.evaluate("node => node.scrollWidth <= node.clientWidth + 1"), width
        if width >= 1280:  # numbers, line and decision on the first screen
            for at in ("#numbers", "#score", "#activate"):
                box = page.locator(at).bounding_box()
                assert box["y"] + box["height"] <= 800, (at, width)
    # With the longest of its numbers: none of the real alerts passes, so the purity is a lower limit.
    page.set_viewport_size({"width": 1366, "height": 768})
    page.fill("#value", "7.5")
    page.press("#value", "Enter")
    settled(page, 7.5)
    assert page.locator("#numbers article").nth(2).locator(".big").inner_text().startswith("≥ 1 in ")
    for one in page.locator(".number .big").all():
        assert one.evaluate("node => node.scrollWidth <= node.clientWidth + 1"), one.inner_text()


def test_every_control_has_a_name_and_is_reached_by_keyboard(look):
    page, _, _ = look
    settled(page, 3)
    page.wait_for_selector("tr[data-cut=reliability]")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, textarea, button, a')].filter((n) =>
             !(n.labels?.length || n.getAttribute('aria-label') || n.textContent.trim())).map((n) => n.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((n) => n.id)")
    assert [i for i, n in Counter(ids).items() if n > 1] == []
    for attribute in ("aria-labelledby", "aria-describedby", "for"):
        named = page.evaluate(f"[...document.querySelectorAll('[{attribute}]')].map((n) => n.getAttribute('{attribute}'))")
        assert set(named) <= set(ids)
    assert page.evaluate(
        "[...document.querySelectorAll('img, [role=img]')].every((n) => n.alt || n.getAttribute('aria-label'))"
    )
    assert page.locator("main").count() == page.locator("h1").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first link skips to the threshold
    page.keyboard.press("Tab")
    reached = [page.evaluate("document.activeElement.id")]
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"night", "cuts-back", "reason", "token", "activate"} - {"cuts-back"} <= set(reached)
    page.focus("#activate")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(page, "Shift+Tab")
    page.focus("#score")
    press(page, "ArrowRight")
    settled(page)
    until(page, "/Threshold 3.01: .* candidates a night/.test(document.querySelector('#spoken').textContent)")


def test_two_filters_are_chosen_between(chromium, night, tmp_path):
    paths = [write_filter(tmp_path / "f", threshold=3.0), write_filter(tmp_path / "f", threshold=1.25, name="other")]
    with served(Desk([FilterFile(p) for p in paths], night[0])) as url, page_of(chromium) as page:
        opened(page, url)
        settled(page, 3)
        page.select_option("#filter", "other")
        settled(page, 1.25)
        assert "1.25" in page.inner_text("#force") and "Version 1" in page.inner_text("#history")


def test_a_million_scores_are_answered_while_the_line_moves(chromium, tmp_path):
    made = columns(n_real=MILLION - 30_000 - 9_000, n_lensed=10_000, n_negative=3_000, nights=14)
    kept = {k: v for k, v in made.items() if k not in ("ra", "dec", "p_lsn", "source", "source_row", "band")}
    table, labels = write_table(tmp_path / "s.parquet", kept), write_labels(tmp_path / "l.csv", made)
    path = write_filter(tmp_path / "f", threshold=3.0, floor=0.3, budget=300)
    desk = Desk([FilterFile(path)], read_alerts([table], labels))
    with served(desk) as url, page_of(chromium) as page, requests.Session() as session:
        assert requests.get(f"{url}/api/v1/filters", timeout=120).json()["alerts"]["n"] == MILLION
        opened(page, url)
        settled(page, 3)
        page.focus("#score")
        press(page, "PageDown", 4)
        seen = [settled(page)]
        for _ in range(5):
            press(page, "ArrowRight", 20)
            seen.append(settled(page))
        values = [s["candidates"] for s in seen]
        assert values == sorted(values, reverse=True) and values[0] > values[-1] > 0
        # One answer, server and asker together, by the processor's time: other programs may hold it meanwhile.
        took_ms = []
        for threshold in np.linspace(0.0, 6.0, 25):
            began = time.process_time()
            session.post(f"{url}/api/v1/preview", json={"filter": "bright", "threshold": float(threshold)}, timeout=60)
            took_ms.append(1000 * (time.process_time() - began))
        assert np.percentile(took_ms, 90) < 100, took_ms  # issue: under 100 ms with a million scores

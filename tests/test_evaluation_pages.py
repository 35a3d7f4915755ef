"""The evaluation's pages: what stands on them is what the report says, nothing is loaded, nothing below 3/n is printed."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_up import CARD, labels

from dgl_broker.errors import InputUnavailable
from dgl_broker.evaluation import page_contaminants, page_parts, results_paper
from dgl_broker.evaluation.page import goals as goals_section
from dgl_broker.evaluation.page import report_page
from dgl_broker.evaluation.results import ROWS, load_results, slim, write_result
from dgl_broker.evaluation.results_page import pages
from dgl_broker.evaluation.run import evaluate, plain, write_report
from dgl_broker.evaluation.scoring import Scored

DOCS = Path(__file__).parents[1] / "docs"
KINDS = ("sn_ia_host", "agn", "sn_ia_lrg", "sn_cc_lrg", "sibling_sne", "sn_ia_in_lens", "lensed_quasar")
KINDS += ("lensed_sn_ia", "lensed_sn_cc")


class MadeUp:
    """Scores that tell classes apart in part, of a table that is labels alone."""

    id = "made_up_<b>"
    splits = {"train": {"lens": {"systems": 7, "alerts": 9}}}
    about = {"about": "made up", "seed": 4, "device": "cpu", "minutes": 1.5, "splits": splits}

    def score(self, table, device, change=None, advance=None):
        label = np.asarray(table.labels["class"]).astype(int)
        logits = np.random.default_rng(1).normal(size=(len(label), 4))
        logits[np.arange(len(label)), label] += 2.0
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return Scored(p, np.log(p[:, 2:].sum(1) / p[:, :2].sum(1)), {}, p.argmax(1))


class Labels:
    """A table of labels without arrays."""

    def __init__(self, columns):
        self.labels = columns

    def __len__(self):
        return len(self.labels["class"])


def judged(n_objects, alerts, kind="alert"):
    table = Labels(labels(n_objects, alerts=alerts, kinds=KINDS))
    card = {**CARD, "kind": kind, "id": "lsst_wide" if kind == "paper" else "tiny"}
    report, scored = evaluate(MadeUp(), card, table, n_draws=20, ablate=False, folders=["/some/where/data"])
    return SimpleNamespace(report=plain(report), raw=report, scored=scored, table=table)


@pytest.fixture(scope="module")
def alert():
    return judged(4590, 3)


@pytest.fixture(scope="module")
def paper():
    return judged(1800, 1, "paper")


def text_of(markup):
    """The words of a page, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))


def test_the_page_lies_beside_the_json_and_loads_nothing(alert, tmp_path):
    write_report(tmp_path, alert.raw, alert.scored, alert.table.labels)
    page = (tmp_path / "index.html").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"index.html", "report.json", "scores.npz", "summary.txt"}
    assert page == report_page(json.loads((tmp_path / "report.json").read_text()))
    assert "<script" not in page and not re.search(r'(src|href)="(?!#|data:)', page) and "url(" not in page
    assert "made_up_&lt;b&gt;" in page and "<b>made_up" not in page and "made_up_<b>" not in page


def test_every_link_of_the_page_has_its_place(alert, paper):
    for made in (alert, paper):
        page = report_page(made.report)
        targets = re.findall(r'href="#([a-z]+)"', page)
        assert len(targets) >= 5 and all(f'id="{t}"' in page for t in targets)


def test_completeness_on_the_page_is_that_of_counting(alert):
    columns, score = alert.table.labels, alert.scored.log_odds
    here = columns["n_detections"] == 3
    hard = here & np.isin(columns["kind"], ["agn", "sn_ia_lrg", "sn_cc_lrg", "sibling_sne", "sn_ia_in_lens", "lensed_quasar"])
    lensed = here & (columns["class"] >= 2)
    # 3,060 negatives of six kinds alike: FPR 1e-2 lets 30 of them pass, and the 31st not.
    assert hard.sum() == 3060
    found = 100 * (score[lensed] > np.sort(score[hard])[-31]).mean()
    row = next(t for t in alert.report["alerts"]["by_detection"]["hard"] if t["at"] == 3)
    assert text_of(page_parts.rate_cell(row, 1e-2)).strip().startswith(f"{found:.1f} ")
    assert f"{found:.1f} " in text_of(report_page(alert.report))


def test_no_rate_below_three_over_the_negatives_is_printed(alert):
    tables = alert.report["alerts"]["by_detection"]["hard"]
    assert [r["measurable"] for r in tables[2]["rates"]] == [True, True, False]
    assert "below 3/n" in page_parts.rate_cell(tables[2], 1e-4)
    assert page_parts.best_moment(tables, 1e-4) is None and page_parts.best_moment(tables, 1e-2) == 3
    purity = [r for rows in alert.report["alerts"]["purity"].values() for r in rows]
    assert any(r["purity"] is None for r in purity)
    printed = text_of(page_contaminants.purity(alert.report["alerts"], 88))
    least = min(t["least_rate"] for t in alert.report["alerts"]["by_detection"]["stream"] if t["least_rate"])
    rates = [float(v) for v in re.findall(r"at FPR ([0-9.e-]+)", printed)]
    assert rates and all(r >= 0.95 * least for r in rates)


def test_two_kinds_that_pass_make_no_rate(alert):
    report = json.loads(json.dumps(alert.report))
    row = next(r for r in report["alerts"]["contaminants"] if r["mix"] == "hard" and r["fpr"] == 1e-2 and r["at"] == 3)
    row["kinds"] = {"agn": {"n": 500, "n_false": 2, "rate": None, "interval": [0.0005, 0.0144]}}
    report["alerts"]["contaminants"] = [row]
    page = page_contaminants.contaminants(report["alerts"])
    assert "AGN: below 0.0144" in page and "2 of 500" in page and "0.004" not in page


def test_missing_kinds_are_named_over_everything_else(alert):
    page = report_page(alert.report)
    banner = text_of(re.search(r'<p class="banner".*?</p>', page).group())
    assert "SN outside the images" in banner and "hard mix" in banner and "sibling" not in banner


def test_a_goal_says_met_or_missed_and_by_how_much():
    rows = [
        {"goal": "TPR a", "target": 0.6, "found": 0.523, "interval": [0.5, 0.55], "met": False, "found_text": ""},
        {"goal": "TPR b", "target": 0.6, "found": 0.7, "interval": None, "met": True, "found_text": ""},
        {"goal": "ECE of p_lsn", "target": 0.02, "found": 0.0312, "interval": None, "met": False, "found_text": ""},
        {"goal": "TPR c", "target": 0.8, "found": None, "interval": None, "met": None, "found_text": ""},
    ]
    said = text_of(goals_section(rows))
    assert (
        "missed by 7.7 points" in said and "50.0 % to 55.0 %" in said and "missed by 0.0112" in said and "not measured" in said
    )


def test_a_paper_set_shows_accuracy_and_that_the_published_one_is_of_other_data(paper):
    said = text_of(report_page(paper.report))
    label = np.asarray(paper.table.labels["class"]).astype(int)
    assert f"{100 * (paper.scored.class_index == label).mean():.1f} " in said
    assert "88.8 %" in said and "not to be compared" in said


def test_a_result_is_small_and_keeps_the_numbers_but_no_paths(alert, paper, tmp_path):
    write_result(tmp_path / "lsst.json", alert.report)
    assert (tmp_path / "lsst.json").stat().st_size < 0.5 * len(json.dumps(alert.report))
    kept = load_results(tmp_path)["lsst"]
    assert "/some/where" not in json.dumps(kept) and "roc" not in json.dumps(kept) and kept["data"]["folders"] == ["data"]
    full = alert.report["alerts"]["by_detection"]["hard"][2]["rates"][0]
    small = kept["alerts"]["by_detection"]["hard"][2]["rates"][0]
    assert small["subsets"]["all"]["tpr"] == pytest.approx(full["subsets"]["all"]["tpr"], rel=1e-5)
    assert slim(paper.report)["paper"]["confusion"]["counts"] == paper.report["paper"]["confusion"]["counts"]


def test_without_results_the_page_says_that_nothing_was_run(tmp_path):
    text = pages(tmp_path)["results.md"]
    assert f"0 of {len(ROWS)} results are in" in text and "Nothing has been run yet" in text
    assert all(f"- `{row.name}`: {row.what}" in text for row in ROWS)
    assert "| DeepGraviLens | 88.7 | 69.6 | 87.7 | 88.8 |" in text and "other data" in text


def test_with_results_each_stands_in_its_row_and_the_rest_as_not_run(alert, paper, tmp_path):
    write_result(tmp_path / "lsst.json", alert.report)
    write_result(tmp_path / "ztf.json", alert.report)
    comparison = {"difference": 0.004, "interval": [-0.002, 0.010], "share_above_0": 0.9, "n_systems": 12000, "n": 12000}
    write_result(tmp_path / "lsst_wide.json", {**paper.report, "comparison": {"other": "/x/authors", "accuracy": comparison}})
    write_result(tmp_path / "sn_off_physical.json", paper.report)
    control = {"lens against lensed_sn_ia": {"n": 400, "accuracy": 0.51, "interval": [0.46, 0.56], "chance_inside": True}}
    (tmp_path / "template_lsst.json").write_text(
        json.dumps({"template_control": {"pairs": control, "at_place": {"pairs": {}}}})
    )
    above = [{"alert_id": 9007199254740993, "log_odds": 3.2, "what": "AGN | variable"}]
    real = {"n": 100, "scored": 90, "threshold": 3.0, "bundle": "lsst", "above": above}
    (tmp_path / "real_lsst.json").write_text(json.dumps({"real_alerts": real}))
    text = pages(tmp_path)
    main = text["results.md"]
    assert f"6 of {len(ROWS)} results are in" in main and "missed by 0.60 points" in main and "Nothing has been run" not in main
    assert "| 9007199254740993 | 3.20 | AGN \\| variable |" in main and "| 51.0 (46.0-56.0) | 50.0 | 400 | yes |" in main
    accuracy = paper.report["paper"]["confusion"]["accuracy"]
    assert f"| LSST-wide, ours, full size | {100 * accuracy:.1f} (" in main
    assert "| LSST-wide, the authors' recipe, full size | not run |" in main and "- `lsst_wide_authors`" in main
    assert "- `lsst_wide`:" not in main and "| lsst | 4 | 7 |" in main
    assert "Completeness, hard mix" in text["results_ztf.md"] and "below 3/n" in main and "Completeness, stream mix" in main
    # Classes that are told apart are not at chance, and the control must say so.
    assert re.search(r"supernova switched off, physical profile \| .* \| 33\.3 \| .* \| \*\*no\*\* \|", main)


def test_a_run_of_another_name_is_shown_and_fills_no_row(paper, tmp_path):
    write_result(tmp_path / "lsst_wide_small.json", paper.report)
    main = pages(tmp_path)["results.md"]
    assert "| further: lsst_wide_small | " in main and "| LSST-wide, ours, full size | not run |" in main
    assert f"0 of {len(ROWS)} results are in" in main and "### Further: lsst_wide_small: confusion" in main
    assert "Nothing has been run" not in main


def test_notes_go_where_they_belong_and_no_other_is_swallowed(alert, tmp_path):
    write_result(tmp_path / "lsst.json", alert.report)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "goals_lsst.md").write_text("Because of so and so.\n")
    assert "Because of so and so." in pages(tmp_path)["results.md"]
    (tmp_path / "notes" / "goal_lsst.md").write_text("mistyped")
    with pytest.raises(InputUnavailable, match="goal_lsst.md"):
        pages(tmp_path)


def test_a_result_that_is_no_json_is_named(tmp_path):
    (tmp_path / "lsst.json").write_text("{")
    with pytest.raises(InputUnavailable, match="lsst.json"):
        load_results(tmp_path)


def test_the_pages_in_the_repository_are_what_the_script_writes():
    for name, text in pages(DOCS / "results").items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"docs/{name} is stale: run python docs/results.py"


def test_published_figures_are_those_of_the_authors_readme():
    # deepgravilens at 2ecf054: STNet 85.1, 58.4, 82.5, 84.3 on DESI-DOT, DES-deep, DES-wide, LSST-wide.
    stnet = next(v for name, v in results_paper.PUBLISHED_OTHERS.items() if name.startswith("STNet"))
    assert stnet == (0.851, 0.584, 0.825, 0.843)
    assert list(results_paper.SET_NAMES.values()) == ["DESI-DOT", "DES-deep", "DES-wide", "LSST-wide"]

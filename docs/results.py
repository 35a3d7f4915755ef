"""Write docs/results.md and docs/results_ztf.md from the JSON in docs/results/: `python docs/results.py`."""

from pathlib import Path

from dgl_broker.evaluation.results_page import pages

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    for name, text in pages(HERE / "results").items():
        (HERE / name).write_text(text, encoding="utf-8")

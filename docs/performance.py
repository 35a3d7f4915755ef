"""Write the tables of docs/performance.md from the JSON in docs/performance/: `python docs/performance.py`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.page import page, read_results  # noqa: E402

if __name__ == "__main__":
    path = HERE / "performance.md"
    path.write_text(page(path.read_text(encoding="utf-8"), read_results(HERE / "performance")), encoding="utf-8")

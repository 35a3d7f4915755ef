"""Write the table of docs/reliability.md from the JSON in docs/reliability/: `python docs/reliability.py`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from faults.page import page, read_results  # noqa: E402

if __name__ == "__main__":
    path = HERE / "reliability.md"
    path.write_text(page(path.read_text(encoding="utf-8"), read_results(HERE / "reliability")), encoding="utf-8")

"""What the last long run counted, into docs/hostile.md from docs/reliability/fuzz*.json: `python tests/fuzz/page.py`."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "hostile.md"
BEGIN, END = "<!-- fuzz: written by tests/fuzz/page.py -->", "<!-- end -->"


def read_runs():
    """Summaries of the last runs, one a decoder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((DOCS / "reliability").glob("fuzz*.json"))]


def _commit(run):
    return f"; commit {run['commit']}" if run.get("commit") else ""


def sentence(run):
    """One run in words."""
    counts = ", ".join(f"{n:,} {status.replace('_', '-')}" for status, n in sorted(run["outcomes"].items(), reverse=True))
    return (
        f"- {run['date']}, decoder in {'Rust' if run['decoder'] == 'native' else 'Python'}: {run['packets']:,} packets "
        f"({counts}), {run['through_the_whole_scorer']:,} of them through the networks, {run['sane_packets_beside']:,} sane "
        f"ones beside; {run['failures']} did harm. {run['cpu_ms_a_packet']:.2f} ms of CPU a packet, making and judging "
        f"included; the slowest batch {run['slowest_batch_cpu_s']:.1f} s. {run['machine']}{_commit(run)}."
    )


def page(text, runs):
    """The page with these runs."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + "\n".join([BEGIN, *map(sentence, runs), END]) + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read_runs()), encoding="utf-8")

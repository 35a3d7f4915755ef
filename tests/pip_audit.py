"""Known vulnerabilities in the pinned dependencies, by pip-audit: `tox run -e audit`.

Exit 1 where one is known. What could not be asked about is said to be NOT CHECKED, and fails nothing: a machine without a way
to the database must not look as if all were well, nor stop the work.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def report(answer, code):
    """(lines to print, exit code) of pip-audit's JSON (None where it gave none) and its own exit code."""
    if answer is None:
        return [f"NOT CHECKED: pip-audit gave no answer (exit {code})"], 0
    found = [d for d in answer["dependencies"] if d.get("vulns")]
    skipped = [d for d in answer["dependencies"] if "skip_reason" in d]
    checked = len(answer["dependencies"]) - len(skipped)
    lines = [
        f"{d['name']} {d['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'no release'}"
        for d in found
        for v in d["vulns"]
    ]
    if skipped:
        lines.append(f"NOT CHECKED: {len(skipped)} of {len(answer['dependencies'])}: {', '.join(d['name'] for d in skipped)}")
    lines.append(f"checked {checked}, vulnerabilities in {len(found)}")
    return lines, 1 if found else 0


def main():
    """Ask, print, and say by the exit code."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(CONSTRAINTS), "--no-deps", "--disable-pip", "--format", "json"]
    done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        print(done.stderr[-2000:], file=sys.stderr)
        answer = None
    lines, code = report(answer, done.returncode)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())

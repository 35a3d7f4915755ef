"""Every fault in its long form: `python -m faults.long` in `tests/`, or `tox run -e faults`.

Results go to `docs/reliability/`, what was said to `docs/reliability/long.log`, and the page is written from them.
"""

import getpass
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The log is kept, and tells nothing of where it was written.
TEMPORARY = tempfile.gettempdir()
PLACES = (
    (f"{ROOT}/", ""),
    (str(ROOT), "."),
    (f"{TEMPORARY}/pytest-of-{getpass.getuser()}", "tmp"),
    (TEMPORARY, "tmp"),
    (sys.prefix, "env"),
    (sys.base_prefix, "python"),
)
FILES = ("test_members.py", "test_cluster.py", "test_services.py")


def without_places(line):
    """A line as the log keeps it."""
    for place, name in PLACES:
        line = line.replace(place, name)
    return line


def main(arguments):
    """Run it; pytest's exit code. `arguments` go to pytest, such as `-k disk_full`."""
    results = ROOT / "docs/reliability"
    environ = {**os.environ, "DGL_FAULTS": "long", "DGL_FAULTS_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-v", "--durations=0", "-p", "no:cacheprovider", *arguments]
    command += [str(Path(__file__).parent / name) for name in FILES]
    with open(results / "long.log", "a" if arguments else "w", encoding="utf-8") as log:
        running = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in running.stdout:
            print(line, end="", flush=True)
            log.write(without_places(line))
        code = running.wait()
    subprocess.run([sys.executable, str(ROOT / "docs/reliability.py")], check=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

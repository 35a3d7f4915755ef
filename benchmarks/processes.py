"""CPU time and resident memory of processes and all that they started, from /proc."""

import contextlib
import os
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Memory(threading.Thread):
    """Resident memory of processes and all that they started: the peak of each, and the sum over time."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.peaks, self.sums = list(pids), {}, []
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.25):
            now = {pid: mib for pid in descendants(self.pids) if (mib := resident_mib(pid))}
            for pid, mib in now.items():
                self.peaks[pid] = max(mib, self.peaks.get(pid, 0.0))
            self.sums.append((time.time(), sum(now.values())))

    def stop(self):
        """Peaks [MiB], the largest first."""
        self._over.set()
        self.join()
        return sorted(self.peaks.values(), reverse=True)


def cpu_s(pid):
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid):
    """Resident memory of a process; 0 where it is gone."""
    with contextlib.suppress(OSError, IndexError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
    return 0.0


def descendants(pids):
    """Processes and all that they started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found, left = [], list(pids)
    while left:
        found.append(left.pop())
        left += parents.get(found[-1], [])
    return found

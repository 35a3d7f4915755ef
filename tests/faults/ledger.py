"""Results of faults: what each must show, and the JSON files behind `docs/reliability.md`."""

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import confluent_kafka

from faults.count import Count

FORM = "long" if os.environ.get("DGL_FAULTS") == "long" else "fast"
RESULTS = os.environ.get("DGL_FAULTS_RESULTS")
BOTH = ("at_least_once", "exactly_once")

# Name -> what is done. The page shows them in this order, and one without a result as not run.
FAULTS = {
    "sigkill": "members killed (SIGKILL) at random moments of 5,000 real packets, while others join and leave",
    "sigkill_100": "the same, 100 kills over 25,000 packets (`python -m faults.storm`)",
    "broker_stopped": "every Kafka node stopped and started again",
    "leader_lost": "the node that leads partitions of the input killed, of three",
    "coordinator_lost": "the node that coordinates the group and the transactions killed, of three",
    "rebalance": "a member joins and another leaves while batches are being scored",
    "stalled": "a member stopped (SIGSTOP) with scores in hand for longer than the session timeout, then continued",
    "stalled_in_transaction": "the same with its outputs sent and the transaction open, for longer than its timeout",
    "disk_full": "no space for a dead letter that must be spilled: exit 6, uncommitted, started again when there is",
    "redis_down": "the companions' Redis server killed in the middle of the run, and started again",
    "redis_slow": "the Redis server stopped answering (SIGSTOP), and continued",
    "redis_full": "the Redis server out of memory, without eviction",
    "redis_foreign": "values under our keys in the Redis server that are not ours",
    "registry_down_at_start": "the schema registry away at the start: exit 5, started again when it is back",
    "registry_down_later": "the schema registry away when a new schema id comes: exit 5, uncommitted, started again",
    "gpu_error": "the device fails in the middle of a batch (simulated): the process ends, uncommitted, started again",
    "port_taken": "the metrics port of two members taken by another program",
    "clock_steps": "the clock a day ahead, two days back and right again, with topics of the night",
    "topic_deleted": "one of two input topics deleted with alerts unread in it",
    "partitions_added": "partitions added to the input while it is read",
    "too_large": "dead letters larger than the topic takes, then score records: spilled; exit 6, started again",
}


@dataclass
class Result:
    """What one fault came to.

    Attributes
    ----------
    fault, delivery : str
    times : int
        How often the fault was tried.
    count : Count
    recover_s : list of float
        After each try, seconds until alerts of every partition were committed again.
    notes : dict
        What else was counted.
    """

    fault: str
    delivery: str
    times: int
    count: Count
    recover_s: list = field(default_factory=list)
    notes: dict = field(default_factory=dict)

    def __add__(self, other):
        notes = {key: self.notes.get(key, 0) + other.notes.get(key, 0) for key in self.notes | other.notes}
        return Result(
            self.fault,
            self.delivery,
            self.times + other.times,
            self.count + other.count,
            self.recover_s + other.recover_s,
            notes,
        )

    def check(self):
        """What every fault must come to."""
        c = self.count
        assert c.inputs > 0 and self.times > 0, self
        assert (c.lost, c.differ, c.extra_ids) == (0, 0, 0), self
        assert self.delivery == "at_least_once" or c.twice == 0, self


def machine():
    """This machine in words."""
    info = Path("/proc/meminfo")
    memory = f", {round(int(info.read_text().split()[1]) / 2**20)} GiB" if info.exists() else ""
    return f"{os.cpu_count()} cores {platform.machine()}{memory}, {platform.system()}, Python {platform.python_version()}"


def as_json(result):
    """A result as its file holds it."""
    seconds = sorted(result.recover_s)
    return {
        "fault": result.fault,
        "delivery": result.delivery,
        "form": FORM,
        "times": result.times,
        **asdict(result.count),
        "recover_median_s": round(statistics.median(seconds), 1) if seconds else None,
        "recover_longest_s": round(seconds[-1], 1) if seconds else None,
        "notes": result.notes,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load": round(os.getloadavg()[2], 1),  # of the last 15 minutes: what else ran there makes seconds long
        "kafka": "Apache Kafka 4.1.1",
        "librdkafka": confluent_kafka.libversion()[0],
    }


def record(result):
    """Write a result's file, where DGL_FAULTS_RESULTS names a folder."""
    if RESULTS:
        folder = Path(RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{result.fault}-{result.delivery}.json"
        path.write_text(json.dumps(as_json(result), indent=1) + "\n")

"""A storm of kills: members of one group are killed at random moments, others join and leave, and every input is counted.

`python -m faults.storm` (in `tests/`) is the long one: 100 kills over 25,000 real packets, with the real scorer, on a Kafka of
its own or on that of DGL_TEST_KAFKA. It writes its result and its log to the folder that DGL_FAULTS_RESULTS names.
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

from kafka import flow

from faults.ledger import RESULTS, Result, record
from faults.scene import DELIVERIES, Scene

SEATS = 2


def storm(scene, kills, chunks, longest_s, how, seed, tell=lambda text: None):
    """Feed `chunks` of values one by one, and in the time of each kill a member at a random moment, as long as kills are left.

    Every other kill waits until the group works again, so that it strikes members at work; those between strike a group that
    may still be sorting itself out. Every third time the other member leaves in order and a new one joins.

    Returns
    -------
    recover_s : list of float
        Of each kill that struck while alerts were waiting, seconds until every partition with any was read on.
    """
    draw = random.Random(seed)
    seats = [scene.start_process(how=how) for _ in range(SEATS)]
    scene.feed(0, values=chunks[0])
    scene.timeline.wait_for(1)
    struck, committed = [], 0
    for n, values in enumerate(chunks[1:], start=1):
        scene.feed(0, values=values)
        ends = scene.ends()
        if n > kills:
            continue
        if n > 1 and n % 2:
            scene.timeline.wait_for(committed + 1, still=scene.nobody_ended_unasked)
        time.sleep(draw.uniform(0.0, longest_s))  # the random moment
        seat = draw.randrange(SEATS)
        seats[seat].kill()
        struck.append((time.monotonic(), ends))
        committed = scene.timeline.committed
        seats[seat] = scene.start_process(how=how)
        tell(f"kill {n} of {kills}, {scene.timeline.committed} of {scene.fed} committed")
        if n % 3 == 0:
            other = seats[1 - seat]
            seats[1 - seat] = scene.start_process(how=how)
            other.stop()
    scene.wait_until_read(300.0)
    recovered = [scene.timeline.recovery_s(*one) for one in struck]
    for member in seats:
        member.stop()
    return [seconds for seconds in recovered if seconds is not None]


def shared_out(values, n_chunks):
    """`values` in `n_chunks` parts of about the same number."""
    edges = [round(i * len(values) / n_chunks) for i in range(n_chunks + 1)]
    return [values[a:b] for a, b in zip(edges, edges[1:])]


class RealPackets:
    """Real ZTF packets under new ids, a bundle of tiny networks, and a filter that passes about half of what is scored."""

    def __init__(self, folder):
        from dgl_broker.scorer import Scorer

        self.folder = Path(folder)
        bundle = flow.tiny_bundle(self.folder / "bundle", "ztf", 1.01)
        self.templates = flow.ZtfTemplates()
        packets = [self.templates.packet(n) for n in range(len(flow.TEMPLATES))]
        scored = [o.scores.log_odds for o in Scorer("ztf", self.folder / "bundle").score(packets) if o.scores is not None]
        middle = sum(scored) / len(scored)
        self.filter = flow.filter_file(self.folder / "half.yaml", "ztf", {}, middle, bundle.sha256)

    def scorer(self):
        """The scorer of the calm run."""
        from dgl_broker.scorer import Scorer

        return Scorer("ztf", self.folder / "bundle", filters=[self.filter])

    def settings(self):
        """What goes into the configuration."""
        return {"bundle": str(self.folder / "bundle"), "filters": [str(self.filter)]}

    def values(self, n):
        """`n` packets, every 97th cut short."""
        packets = (self.templates.packet(i) for i in range(n))
        return [value[: len(value) // 2] if i % 97 == 0 else value for i, value in enumerate(packets)]


def real_storm(broker, fault, name, folder, delivery, kills, n_alerts, seed, tell=lambda text: None):
    """The storm with real packets and the real scorer: its Result."""
    packets = RealPackets(Path(folder) / "made")
    kafka = {"session.timeout.ms": 6000}
    if delivery == "exactly_once":
        kafka |= {"transaction.timeout.ms": 10_000, "delivery.timeout.ms": 10_000}
    with Scene(broker, name, folder, delivery, 8, scorer=packets.scorer, kafka=kafka, **packets.settings()) as scene:
        chunks = shared_out(packets.values(n_alerts), kills + 2)
        recover_s = storm(scene, kills, chunks, 5.0, {"scorer": "real", "stretch_s": 0.1}, seed, tell)
        return Result(fault, delivery, kills, scene.count(), recover_s)


def main(arguments=None):
    """Run it; 0 where nothing is lost, twice (exactly once) or differs."""
    import os

    from kafka.broker import KafkaBroker, Topics, fetch_jars

    parser = argparse.ArgumentParser(prog="python -m faults.storm", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--alerts", type=int, default=25_000)
    parser.add_argument("--delivery", choices=DELIVERIES, default="exactly_once")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    began = time.monotonic()

    with contextlib.ExitStack() as open_files, tempfile.TemporaryDirectory() as folder:
        logs = [sys.stdout]
        if RESULTS:
            Path(RESULTS).mkdir(parents=True, exist_ok=True)
            logs.append(open_files.enter_context(open(Path(RESULTS) / f"storm-{args.delivery}.log", "w", encoding="utf-8")))

        def tell(text):
            for log in logs:
                print(f"{time.monotonic() - began:7.1f} s  {text}", file=log, flush=True)

        named = os.environ.get("DGL_TEST_KAFKA")
        broker = Topics(named) if named else KafkaBroker(Path(folder) / "kafka", fetch_jars())
        try:
            name = f"storm-{args.delivery}-{args.seed}"
            result = real_storm(broker, "sigkill_100", name, folder, args.delivery, args.kills, args.alerts, args.seed, tell)
        finally:
            if not named:
                broker.stop()
        tell(f"{result.times} kills, {result.count}, seconds to recover {sorted(result.recover_s)}")
    record(result)
    result.check()
    return 0


if __name__ == "__main__":
    sys.exit(main())

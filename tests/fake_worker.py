"""A worker that loads nothing: it does what its job's plan says, and tells of it as a real one does.

The plan is a list for each worker of lists for each of its lives, the last one for all that follow; a life is a list of steps:
`["deliver", n]`, `["begin", n]` (a batch that is never finished), `["say", text]` to standard error, `["state"]`,
`["exit", code]`, `["die", signal]`, and `["wait"]` until asked to end.
"""

import json
import os
import sys
from pathlib import Path


def main():
    from dgl_broker.observe.merged import told
    from dgl_broker.observe.metrics import Metrics
    from dgl_broker.observe.summary import Tally
    from dgl_broker.stream.workers.telling import Teller

    tell, job = Teller(int(sys.argv[1])), json.loads(sys.stdin.buffer.readline())
    number, folder = job["number"], Path(job["folder"])
    lives = len(list(folder.glob(f"{number}.*.life")))
    (folder / f"{number}.{lives}.life").write_text(json.dumps(job))
    plan = job["plan"][number]
    metrics, offset = Metrics(), 0
    metrics["dgl_workers"].set(1)
    metrics["dgl_expired_total"].inc(1)
    for step, *given in plan[min(lives, len(plan) - 1)]:
        if step in ("deliver", "begin"):
            (n,) = given
            offset += n
            tally = Tally(consumed=n, scored=n - 1, refused=1, refused_by_reason={"made_up": 1}, published={"s": n})
            tell("begin", tally=tally.as_dict(), offsets=[["in", number, offset]])
            if step == "deliver":
                tell("settled")
        elif step == "state":
            health = {"alive": True, "ready": True, "bundle": True, "partitions": number == 0, "schemas": True}
            tell("state", health=health, info={"survey": "ztf", "bundle_id": "fake"}, metrics=told(metrics))
        elif step == "say":
            sys.stderr.write(given[0] + "\n")
        elif step == "exit":
            return given[0]
        elif step == "die":
            os.kill(os.getpid(), given[0])
        elif step == "wait":
            while os.read(0, 1000):
                pass
            (folder / f"{number}.in_order").touch()
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    raise SystemExit(main())

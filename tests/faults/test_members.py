"""Members of a group that are killed, stalled, short of disk or out of time: every input is accounted for."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from kafka import flow
from kafka.broker import free_ports
from kafka.flow import PATIENCE_S

from faults import cheap
from faults.ledger import BOTH, FORM, Result
from faults.scene import Scene
from faults.storm import real_storm, shared_out, storm

pytestmark = pytest.mark.kafka


def sigkill(broker, name, folder, delivery):
    seed = zlib.crc32(name.encode())
    if FORM == "long":
        return real_storm(broker, "sigkill", name, folder, delivery, 20, 5000, seed)
    kills = 3
    exactly = {"transaction.timeout.ms": 10_000, "delivery.timeout.ms": 10_000}
    with Scene(broker, name, folder, delivery, 8, kafka=exactly if delivery == "exactly_once" else {}) as scene:
        recover_s = storm(scene, kills, shared_out(cheap.values(0, 600), kills + 2), 1.5, {"stretch_s": 0.05}, seed)
        return Result("sigkill", delivery, kills, scene.count(), recover_s)


def rebalance(broker, name, folder, delivery):
    def slow(_messages):
        time.sleep(0.3)  # a batch is nearly always in work when the group moves

    with Scene(broker, name, folder, delivery) as scene:
        scene.feed(480)
        first = scene.start_thread(cheap.CheapScorer(slow))
        scene.timeline.wait_for(40)
        joined = time.monotonic()
        second = scene.start_thread(cheap.CheapScorer(slow))
        scene.timeline.wait_for(240)
        first.stop()
        scene.feed(120)
        third = scene.start_thread(cheap.CheapScorer(slow))
        scene.wait_until_read()
        summaries = [second.stop(), third.stop(), first.worker.summary()]
        assert summaries[0]["consumed"] > 0
        result = Result("rebalance", delivery, 1, scene.count(), [scene.timeline.recovery_s(joined)])
        # Whoever leaves and joins in order repeats nothing, under either delivery.
        assert result.count.twice == 0 and sum(s["consumed"] for s in summaries) == scene.fed
        return result


SHORT_MS = 5000  # of a transaction, where it is to time out


def stalled(broker, name, folder, delivery, fault="stalled", step="outcomes"):
    exactly = {"transaction.timeout.ms": SHORT_MS, "delivery.timeout.ms": SHORT_MS}
    with Scene(broker, name, folder, delivery, kafka=exactly if delivery == "exactly_once" else {}) as scene:
        scene.feed(200)
        first = scene.start_process(how={"stop_after": step, "stop_at": 2})
        first.wait_until_stopped()
        stopped = time.monotonic()
        scene.feed(100)
        second = scene.start_process()
        scene.wait_until_read()
        for topic in scene.topics.values():
            flow.wait_for_open_transactions(scene.servers, topic)  # until that of the first is given up
        first.may_have_ended = True  # what is fenced for good ends, and says so
        first.signal(signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE_S
        while not first.has_ended and first.log.count("given ") < 2:
            assert time.monotonic() < deadline, first.log
            time.sleep(0.05)
        if first.has_ended:
            assert first.process.poll() == 5, first.why()
            scene.start_process()
        scene.feed(100)
        scene.wait_until_read()
        for member in scene.members:
            if not member.has_ended:
                member.stop()
        assert second.summary["consumed"] >= 100
        fenced = {"fenced for good": int(first.process.poll() == 5)}
        return Result(fault, delivery, 1, scene.count(), [scene.timeline.recovery_s(stopped)], fenced)


def stalled_in_transaction(broker, name, folder, delivery):
    return stalled(broker, name, folder, delivery, "stalled_in_transaction", "attempt")


@contextlib.contextmanager
def small_disk(folder, n_bytes):
    """A disk of so many bytes at `folder`; () -> make it large. None where none may be mounted here."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=50m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_full(broker, name, folder, delivery):
    spill = folder / "spill"
    with (
        small_disk(spill, 100_000) as enlarge,
        Scene(broker, name, folder, delivery, limits={"dead_letters": 20_000}) as scene,
    ):
        # Of each batch some cannot be read, and are larger than the dead letters' topic takes.
        scene.feed(0, values=[v + b" " + os.urandom(30_000) if v.endswith(b"cut") else v for v in cheap.values(0, 200)])
        # Where nothing may be mounted, a limit on a file's size says no as a full disk does.
        first = scene.start_process(how={} if enlarge else {"file_limit": 20_000})
        first.may_have_ended = True
        assert first.wait() == 6 and "cannot be spilled" in first.log, first.why()
        before = scene.count()
        assert before.lost > 0 and scene.timeline.committed < scene.fed
        if enlarge:
            assert "No space left on device" in first.log
            enlarge()
        again = time.monotonic()
        second = scene.start_process()
        scene.wait_until_read()
        second.stop()
        spilled = {path.read_bytes() for path in spill.glob("*.bin")}
        result = Result("disk_full", delivery, 1, scene.count(), [scene.timeline.recovery_s(again)], {"spilled": len(spilled)})
        assert len(spilled) == 40 and {p.stat().st_mode & 0o777 for p in spill.glob("*.bin")} == {0o600}
        return result


def port_taken(broker, name, folder, delivery):
    with socket.socket() as other:
        (port,) = free_ports(1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with Scene(broker, name, folder, delivery, metrics={"port": port}) as scene:
            scene.feed(100)
            members = [scene.start_process() for _ in range(2)]
            for member in members:
                member.wait_for(f"metrics port {port} is taken; serving on")
            served = {int(m.log.split("serving on ")[1].split()[0]) for m in members}
            assert len(served) == 2 and port not in served
            for one in served:
                with urllib.request.urlopen(f"http://127.0.0.1:{one}/metrics", timeout=5) as answer:
                    assert b"dgl_consumed_total" in answer.read()
            scene.wait_until_read()
            for member in members:
                member.stop()
            return Result("port_taken", delivery, 1, scene.count())


def clock_steps(broker, name, folder, delivery):
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    right = (noon - datetime.now(UTC)).total_seconds()  # all of it happens at that noon, whenever the test runs
    clock = folder / "clock"

    def step(days):
        (folder / "clock.new").write_text(str(right + days * 86400.0))
        (folder / "clock.new").replace(clock)

    def topic(days):
        return f"{name}_{noon + timedelta(days=days):%Y%m%d}"

    step(0)
    nights = {"topics": [name + "_{night:%Y%m%d}"], "nights": 2}
    inputs = [topic(days) for days in (0, -1, 1, -2)]
    with Scene(broker, name, folder, delivery, 2, inputs=inputs, input=nights) as scene:

        def wait_for(*days):
            member.wait_for(f"reading {', '.join(sorted(topic(d) for d in days))}\n")

        scene.feed(60, topic(0)), scene.feed(40, topic(-1))
        member = scene.start_process(how={"clock": str(clock), "refresh_s": 0.3})
        scene.timeline.wait_for(50)
        step(1)
        scene.feed(60, topic(1)), scene.feed(20, topic(0))
        scene.timeline.wait_for(180)
        wait_for(0, 1)
        step(-2)
        scene.feed(40, topic(-2))
        wait_for(-2)
        scene.feed(20, topic(0))  # of a night that has not come yet, by this clock
        scene.timeline.wait_for(220)
        step(0)
        back = time.monotonic()
        scene.feed(20, topic(-1))
        scene.wait_until_read()
        summary = member.stop()
        assert summary["consumed"] == scene.fed and summary["expired"] == 0
        return Result("clock_steps", delivery, 3, scene.count(), [scene.timeline.recovery_s(back)])


def topic_deleted(broker, name, folder, delivery):
    stays, goes = f"{name}.in", f"{name}.goes"
    deleted = []

    def delete(messages):
        if not deleted and any(m.topic == goes and m.offset > 40 for m in messages):
            deleted.append(time.monotonic())
            broker.delete_topic(goes)  # in the middle of a batch of its alerts

    # Fetched in small portions, so that much is still unread when the topic goes.
    fetch = {"queued.min.messages": 1, "fetch.message.max.bytes": 1000, "queued.max.messages.kbytes": 1}
    fetch["fetch.queue.backoff.ms"] = 5
    with Scene(broker, name, folder, delivery, 2, inputs=[stays, goes], kafka=fetch) as scene:
        scene.feed(100, stays)
        scene.feed(0, goes, [v + b" " + b"x" * 900 for v in cheap.values(100, 400)], **{"batch.num.messages": 1})
        expected = scene.expected()
        member = scene.start_thread(cheap.CheapScorer(delete))
        deadline = time.monotonic() + PATIENCE_S
        while not deleted:
            assert time.monotonic() < deadline and not member.has_ended, member.why()
            time.sleep(0.05)
        scene.inputs = [stays]
        scene.feed(100, stays)
        expected |= scene.expected()
        scene.wait_until_read()
        deadline = time.monotonic() + PATIENCE_S
        while not member.worker.summary()["expired"]:
            assert time.monotonic() < deadline, "what was unread in a deleted topic is not counted"
            time.sleep(0.05)
        expired = member.stop()["expired"]
        found = scene.count(expected)
        assert 0 < found.lost <= expired  # an upper bound, told
        found.lost = 0
        return Result("topic_deleted", delivery, 1, found, [], {"expired": expired})


def partitions_added(broker, name, folder, delivery):
    refresh = {"topic.metadata.refresh.interval.ms": 500}
    with Scene(broker, name, folder, delivery, 2, watched=6, kafka=refresh) as scene:
        scene.feed(100)
        member = scene.start_thread()
        scene.timeline.wait_for(50)
        broker.add_partitions(scene.inputs[0], 6)
        scene.n_partitions = 6
        added = time.monotonic()
        scene.feed(300)
        scene.wait_until_read()
        assert member.stop()["consumed"] == 400
        return Result("partitions_added", delivery, 1, scene.count(), [scene.timeline.recovery_s(added)])


def too_large(broker, name, folder, delivery):
    limits = {"scores": 1000, "dead_letters": 20_000}
    fetch = {"fetch.message.max.bytes": 100_000}
    with Scene(broker, name, folder, delivery, 2, limits=limits, kafka=fetch) as scene:
        large = [v + b" " + os.urandom(400_000) if v.endswith(b"cut") else v for v in cheap.values(0, 60)]
        scene.feed(0, values=large, **{"batch.num.messages": 1})
        first = scene.start_process()
        first.may_have_ended = True
        assert first.wait() == 6 and "is larger than the broker takes" in first.log, first.why()
        assert scene.timeline.committed == 0
        enlarge(broker, scene.topics["scores"], 1_000_000)
        again = time.monotonic()
        second = scene.start_process()
        scene.wait_until_read()
        second.stop()
        spilled = [path.stat().st_size for path in Path(scene.settings.output.spill).glob("*.bin")]
        assert len(spilled) == 12 and min(spilled) > 400_000
        recover_s = [scene.timeline.recovery_s(again)]
        return Result("too_large", delivery, 1, scene.count(), recover_s, {"spilled": len(spilled)})


def enlarge(broker, topic, n_bytes):
    """Let a topic take messages of so many bytes."""
    entry = ConfigEntry("max.message.bytes", str(n_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in broker.admin.incremental_alter_configs([resource]).values():
        future.result(30)


FAULTS = {
    "sigkill": sigkill,
    "rebalance": rebalance,
    "stalled": stalled,
    "stalled_in_transaction": stalled_in_transaction,
    "disk_full": disk_full,
    "port_taken": port_taken,
    "clock_steps": clock_steps,
    "topic_deleted": topic_deleted,
    "partitions_added": partitions_added,
    "too_large": too_large,
}


@pytest.fixture(scope="module", autouse=True)
def often():
    """Members in this process look for topics often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dgl_broker.stream.source.REFRESH_S", 0.3)
        yield


@pytest.mark.parametrize("case", [(fault, delivery) for fault in FAULTS for delivery in BOTH], ids="-".join)
def test_every_alert_is_accounted_for(case, under_way):
    under_way[case].result().check()

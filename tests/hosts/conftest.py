"""What tests of adapters share: real alerts that the filter has scored, and the service that answers from them."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALERTS = HERE.parent / "data/alerts"
USER, PASSWORD = "babamul-someone", "a-password-of-this-test"  # of the broker that asks for a login
START_S = 300.0  # two bundles are loaded, and a busy machine takes its time


def main_python():
    """The interpreter that has this package with all it needs: this one, or the one that DGL_MAIN_PYTHON names."""
    if importlib.util.find_spec("torch") and importlib.util.find_spec("lmdb"):
        return sys.executable
    named = os.environ.get("DGL_MAIN_PYTHON")
    if not named or not Path(named).exists():
        pytest.skip("neither this environment nor DGL_MAIN_PYTHON has the package with all it needs, to run the filter")
    return named


class Stage:
    """A running `stage.py`: `url` of the service, `kafka`, `schemas` (folder of Rubin's), and `published`, survey ->
    {alert id: record}.
    """

    def __init__(self, told):
        self.url, self.kafka, self.schemas = told["url"], told["kafka"], told["schemas"]
        self.published = {s: {int(r["alert_id"]): r for r in found} for s, found in told["published"].items()}


@pytest.fixture(scope="session")
def alert_files():
    """Files of real alerts: the shared ones where they are at hand, else those of the repository."""
    shared = os.environ.get("DGL_SHARED")
    if not shared:
        return sorted(ALERTS.glob("*.avro"))
    folder = Path(shared) / "data/alerts"
    return sorted([*folder.glob("ztf/v*/*.avro"), *folder.glob("lsst/confluent*/*.avro")])


@pytest.fixture(scope="session")
def stage(tmp_path_factory, alert_files):
    """Real alerts through the real filter, and the service over its scores, in a process of their own (or in the one that
    wrote the file DGL_TEST_STAGE).
    """
    if os.environ.get("DGL_TEST_STAGE"):
        yield Stage(json.loads(Path(os.environ["DGL_TEST_STAGE"]).read_text()))
        return
    folder = tmp_path_factory.mktemp("stage")
    out, log = folder / "stage.json", folder / "log.txt"
    command = [main_python(), str(HERE / "stage.py"), str(out), *map(str, alert_files)]
    with open(log, "wb") as said:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environ)
    try:
        deadline = time.monotonic() + START_S
        while not out.exists() or not out.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Stage(json.loads(out.read_text()))
    finally:
        process.stdin.close()
        process.wait(60)


PLAIN_LOGIN = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SCRAM://127.0.0.1:{scram}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SCRAM://127.0.0.1:{scram}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SCRAM:SASL_PLAINTEXT
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@pytest.fixture(scope="session")
def kafka_with_login(kafka_jars, tmp_path_factory):
    """A broker that asks for a login as Babamul and Hopskotch do (SCRAM-SHA-512), without TLS: `scram`, `user`, `password`."""
    from kafka.broker import KafkaBroker, free_ports

    plain, controller, scram = free_ports(3)
    more = PLAIN_LOGIN.format(plain=plain, controller=controller, scram=scram)
    user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    folder = tmp_path_factory.mktemp("kafka")
    broker = KafkaBroker(folder, kafka_jars, more, ["--add-scram", user], ports=(plain, controller))
    broker.scram, broker.user, broker.password = f"127.0.0.1:{scram}", USER, PASSWORD
    yield broker
    broker.stop()

"""Who may read and write, and what nobody may read: TLS and SASL on the real broker, and secrets in whatever we write."""

import base64
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from faults.scene import Scene
from faults.storm import RealPackets
from kafka import flow
from kafka.broker import free_ports
from kafka.registry import Registry
from kafka.secure import OPENSSL, Certificates, SecureBroker, TokenIssuer
from redis_server import SERVER, Server

from dgl_broker.settings import check_settings

ROOT = Path(__file__).parents[1]
ENV = "DGL_BROKER__"
# Each of a kind of its own, so that what leaks says which it was.
SECRETS = {
    "scram": "n0t-in-any-log-scram",
    "key": "n0t-in-any-log-key",
    "client": "n0t-in-any-log-client",
    "wrong": "n0t-in-any-log-wrong",
    "registry": "n0t-in-any-log-registry",
    "redis": "n0t-in-any-log@redis",
}
TRANSPORTS = ("MTLS", "SCRAM", "TOKEN", "OIDC")
REFUSED = {
    "wrong password": ("SCRAM", {}, {"KAFKA__SASL_PASSWORD": SECRETS["wrong"]}),
    "another authority": ("SCRAM", {"ssl.ca.location": "other.pem"}, {}),
    "no certificate": ("MTLS", {"ssl.certificate.location": None, "ssl.key.location": None}, {"KAFKA__SSL_KEY_PASSWORD": None}),
    "wrong client secret": ("OIDC", {}, {"KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": SECRETS["wrong"]}),
    "no encryption": ("SCRAM", {"security.protocol": "sasl_plaintext"}, {}),
}
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl on PATH, with which certificates are made")


class Secured:
    """A broker that asks who is there, and the keys by which each way in is configured."""

    def __init__(self, folder, jars):
        self.folder = folder
        self.certificates = Certificates(folder / "certificates", SECRETS["key"])
        self.issuer = TokenIssuer(folder / "issuer", "dgl", SECRETS["client"])
        self.broker = SecureBroker(folder / "kafka", jars, self.certificates, self.issuer, "reader", SECRETS["scram"])

    def way_in(self, name):
        """(kafka keys of the file, secrets of the environment) of one listener."""
        keys = {"bootstrap.servers": self.broker.listeners[name], "ssl.ca.location": self.certificates.path("authority.pem")}
        if name == "MTLS":
            own = {"ssl.certificate.location": "client.crt", "ssl.key.location": "client.locked.key"}
            keys |= {"security.protocol": "ssl"} | {key: self.certificates.path(file) for key, file in own.items()}
            return keys, {"KAFKA__SSL_KEY_PASSWORD": SECRETS["key"]}
        keys |= {"security.protocol": "sasl_ssl", "sasl.mechanism": "SCRAM-SHA-512" if name == "SCRAM" else "OAUTHBEARER"}
        if name == "SCRAM":
            return keys | {"sasl.username": "reader"}, {"KAFKA__SASL_PASSWORD": SECRETS["scram"]}
        if name == "TOKEN":
            return keys | {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": "principal=dgl"}, {}
        keys |= {"sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "dgl"}
        keys["sasl.oauthbearer.token.endpoint.url"] = f"{self.issuer.url}/token"
        return keys, {"KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": SECRETS["client"]}

    def close(self):
        """Stop the broker and the issuer."""
        self.broker.stop()
        self.issuer.close()


def environment(secrets):
    """Secrets as the environment hands them over."""
    return {ENV + key: value for key, value in secrets.items() if value is not None}


@pytest.fixture(scope="module")
def secured(tmp_path_factory, kafka_jars):
    one = Secured(tmp_path_factory.mktemp("secured"), kafka_jars)
    yield one
    one.close()


@pytest.fixture(scope="module")
def members(secured, tmp_path_factory):
    """Name -> (scene, process): every way in, right and wrong, side by side; librdkafka told to log all it does."""
    folder, started = tmp_path_factory.mktemp("members"), {}
    loud = {"log": {"level": "debug"}, "service": {"max_failures": 2, "timeout_s": 5.0}}
    for n, name in enumerate([*TRANSPORTS, *REFUSED]):
        way, changes, other = REFUSED.get(name, (name, {}, {}))
        keys, secrets = secured.way_in(way)
        keys = {k: v for k, v in (keys | changes).items() if v is not None}
        if "ssl.ca.location" in changes:
            keys["ssl.ca.location"] = secured.certificates.path(changes["ssl.ca.location"])
        delivery = "exactly_once" if n % 2 else "at_least_once"
        scene = Scene(secured.broker, f"in{n}", folder / f"in{n}", delivery, 2, kafka=keys | {"debug": "all"}, **loud)
        scene.feed(50)
        started[name] = scene, scene.start_process("--until-eof", environ=environment(secrets | other))
    yield started
    for scene, _ in started.values():
        scene.close()


def leaks(text, secrets=SECRETS):
    """Names of the secrets that stand in a text, as they are, for a URL, or encoded as HTTP hands them over."""
    found = set()
    for name, secret in secrets.items():
        forms = {secret, urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")}
        found |= {name for form in forms if form in text}
    # A header of HTTP's basic authentication is one text of user and password.
    for encoded in re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", text):
        try:
            decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        except ValueError:
            continue
        found |= {name for name, secret in secrets.items() if secret in decoded}
    return found


@pytest.mark.kafka
@needs_openssl
@pytest.mark.parametrize("way", TRANSPORTS)
def test_alerts_come_and_go_by_every_way_in(members, way):
    scene, member = members[way]
    assert member.wait() == 0, member.log[-3000:]
    count = scene.count()
    assert (count.inputs, count.lost, count.twice, count.differ) == (50, 0, 0, 0)
    # The client that asks for a topic's limit has to get in as well.
    assert "its largest message is not known" not in member.log


@pytest.mark.kafka
@needs_openssl
@pytest.mark.parametrize("what", REFUSED)
def test_who_is_refused_gets_nothing_and_says_so(members, what):
    scene, member = members[what]
    assert member.wait() == 5, member.log[-3000:]
    assert "failed 2 times in a row" in member.log
    count = scene.count()
    assert count.lost == 50 and scene.timeline.committed == 0


@pytest.mark.kafka
@needs_openssl
def test_no_secret_and_no_token_is_in_a_log_or_a_summary(members, secured):
    tokens = {f"token {n}": token for n, token in enumerate(secured.issuer.tokens)}
    assert tokens
    for scene, member in members.values():
        member.wait()
        files = [path for path in scene.folder.rglob("*") if path.is_file()]
        assert member.log_file in files
        for path in files:
            assert leaks(path.read_text(errors="replace"), SECRETS | tokens) == set(), path


@pytest.fixture(scope="module")
def whole(secured, tmp_path_factory):
    """A filter with every kind of secret at work: all the texts that it wrote, by where they stand."""
    folder = tmp_path_factory.mktemp("whole")
    registry, packets = Registry({}, "reader", SECRETS["registry"]), RealPackets(folder / "made")
    redis = Server(folder) if SERVER else None
    if redis is not None:
        redis.client().config_set("requirepass", "another")
    keys, secrets = secured.way_in("SCRAM")
    (port,) = free_ports(1)
    raw = packets.settings() | {
        "input": {"schemas": registry.url, "schemas_user": "reader"},
        "metrics": {"port": port},
        "status": str(folder / "status"),
        "log": {"level": "debug", "format": "json"},
    }
    secrets |= {"INPUT__SCHEMAS_PASSWORD": SECRETS["registry"], "OUTPUT__REGISTRY_PASSWORD": SECRETS["registry"]}
    secrets |= {"OUTPUT__REGISTRY": registry.url, "OUTPUT__REGISTRY_USER": "reader"}
    secrets |= {"COMPANIONS__STORE": "redis", "COMPANIONS__URL": _url(redis)}
    environ = environment(secrets)
    with Scene(secured.broker, "whole", folder / "scene", "at_least_once", 2, kafka=keys | {"debug": "all"}, **raw) as scene:
        large = b"\x00" * 10 + bytes(1_200_000)
        scene.feed(0, values=[*packets.values(100), large])
        member = scene.start_process(how={"scorer": "real"}, environ=environ)
        scene.wait_until_read()
        texts = {path: _fetch(port, path) for path in ("metrics", "healthz", "readyz")}
        texts["listening"] = Path(f"/proc/{member.process.pid}/net/tcp").read_text()
        texts |= {str(path): path.read_text() for path in (folder / "status").iterdir()}  # taken away at its end
        member.stop()
        listed = subprocess.run(
            [sys.executable, "-m", "dgl_broker", "deadletters", "list", "--config", str(scene.config)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=_environ(environ),
        )
        assert listed.returncode == 0, listed.stderr
        texts["deadletters list"] = listed.stdout + listed.stderr
        wrong = environ | {f"{ENV}INPUT__SCHEMAS_PASSWORD": SECRETS["wrong"], f"{ENV}KAFKA__SASL_PASSWORD": SECRETS["wrong"]}
        refused = scene.start_process(how={"scorer": "real"}, environ=wrong)
        assert refused.wait() == 3, refused.log[-2000:]
        texts["refused"] = refused.log
        for topic in scene.topics.values():
            messages = flow.read_topic(scene.servers, topic)
            assert topic.endswith("candidates") or messages
            texts[topic] = b"".join(m.value() + repr((m.key(), m.headers())).encode() for m in messages).decode(
                errors="replace"
            )
        for path in scene.folder.rglob("*"):
            if path.is_file():
                texts[str(path)] = path.read_text(errors="replace")
        yield texts, port, scene
    registry.close()
    if redis is not None:
        redis.stop()


def _url(redis):
    port = redis.port if redis is not None else free_ports(1)[0]
    return f"redis://:{urllib.parse.quote(SECRETS['redis'], safe='')}@127.0.0.1:{port}/0"


def _environ(more):
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def _fetch(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.kafka
@needs_openssl
def test_no_secret_is_in_anything_that_the_filter_writes(whole):
    texts, _, scene = whole
    kinds = ("metrics", "summary.json", "log.txt", "whole.scores", "whole.dead_letters", "status")
    assert all(any(kind in name for name in texts) for kind in kinds), sorted(texts)
    assert {name: found for name, text in texts.items() if (found := leaks(text))} == {}


@pytest.mark.kafka
@needs_openssl
def test_metrics_are_served_on_loopback_alone(whole):
    texts, port, _ = whole
    rows = [line.split() for line in texts["listening"].splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    assert listening == {f"0100007F:{port:04X}"}  # 127.0.0.1, as /proc/net/tcp writes it


@pytest.mark.kafka
@needs_openssl
def test_spilled_files_are_their_owners_alone(whole):
    _, _, scene = whole
    spilled = [path for path in Path(scene.settings.output.spill).iterdir() if path.is_file()]
    assert spilled and {path.stat().st_mode & 0o777 for path in spilled} == {0o600}
    assert Path(scene.settings.output.spill).stat().st_mode & 0o777 == 0o700


def test_spilled_files_are_their_owners_alone_whatever_the_umask(tmp_path):
    code = (
        "import os, sys; os.umask(0)\n"
        "from dgl_broker.outputs.deadletters import spill\n"
        "long = {'key': b'k' * 3000, 'headers': [], 'message_id': 'one'}\n"
        "spill({'value': b'x', 'value_sha256': 'ab', 'size': 1, **long}, sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "spill")], check=True, cwd=ROOT)
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in (tmp_path / "spill").iterdir()}
    assert modes == {".bin": 0o600, ".json": 0o600}


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {bootstrap.servers: 'a:1', sasl.password: n0t-in-any-log-scram}",
        "kafka: {bootstrap.servers: 'a:1', ssl.key.pem: n0t-in-any-log-key, no.such.key: 1}",
        "kafka: {bootstrap.servers: 'a:1', sasl.oauthbearer.client.secret: n0t-in-any-log-client}",
        "companions: {store: redis, url: 'redis://:n0t-in-any-log%40redis@h/0'}",
        "input: {topics: [7], schemas: 'https://u:n0t-in-any-log-registry@h'}",
        "output: {registry: 'https://u:n0t-in-any-log-registry@h', refused: often}",
    ],
)
def test_no_secret_is_in_what_is_said_of_a_wrong_file(tmp_path, text):
    path = tmp_path / "broker.yaml"
    path.write_text(f"survey: ztf\n{text}\n")
    settings, problems = check_settings(
        path, {f"{ENV}KAFKA__SASL_PASSWORD": SECRETS["wrong"], f"{ENV}NO__KEY": SECRETS["wrong"]}
    )
    assert settings is None and leaks("\n".join(map(str, problems))) == set()
    assert any("in the environment" in str(p) for p in problems)


def test_a_password_in_a_url_is_hidden_as_it_is_and_as_it_is_written_there(tmp_path):
    path = tmp_path / "broker.yaml"
    path.write_text("survey: ztf\nkafka: {bootstrap.servers: 'a:1'}\ninput: {topics: [t]}\ncompanions: {store: redis}\n")
    settings, problems = check_settings(path, {f"{ENV}COMPANIONS__URL": "redis://:n0t-in-any-log%40redis@h/0"})
    assert problems == [] and {"n0t-in-any-log@redis", "n0t-in-any-log%40redis"} <= set(settings.secrets())


def test_settings_do_not_show_their_secrets(tmp_path):
    path = tmp_path / "broker.yaml"
    path.write_text("survey: ztf\nkafka: {bootstrap.servers: 'a:1'}\ninput: {topics: [t]}\n")
    environ = {f"{ENV}KAFKA__SASL_PASSWORD": SECRETS["scram"], f"{ENV}INPUT__SCHEMAS_PASSWORD": SECRETS["registry"]}
    settings, _ = check_settings(path, environ)
    assert leaks(repr(settings) + str(settings)) == set()


def test_the_image_runs_as_nobody_in_particular():
    lines = (ROOT / "ops/Containerfile").read_text().splitlines()
    stages = [n for n, line in enumerate(lines) if line.startswith("FROM ")]
    users = [line.split()[1] for line in lines[stages[-1] :] if line.startswith("USER ")]
    assert users, "the last stage names no USER, and runs as root"
    user, _, group = users[-1].partition(":")
    # By number: what runs it can then see that it is not root.
    assert user.isdecimal() and int(user) > 0 and (not group or (group.isdecimal() and int(group) > 0))
    assert not any("PASSWORD" in line or "SECRET" in line for line in lines)

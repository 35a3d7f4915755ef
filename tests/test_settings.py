"""broker.yaml: defaults, overrides from the environment, and every problem at once."""

import pytest

from dgl_broker.errors import ConfigError
from dgl_broker.settings import check_settings, load_settings, parse_start
from dgl_broker.settings_rekey import check_rekey_settings

LEAST = "survey: ztf\nkafka: {bootstrap.servers: 'broker:9092'}\ninput: {topics: [alerts]}\n"


@pytest.fixture
def write(tmp_path):
    def write_one(text=LEAST):
        path = tmp_path / "broker.yaml"
        path.write_text(text)
        return path

    return write_one


def problems(path, **environ):
    settings, found = check_settings(path, environ)
    assert (settings is None) == bool(found)
    return {p.key: p for p in found}


def test_three_keys_are_enough(write):
    settings = load_settings(write(), {})
    assert settings.group_id == "dgl-broker-ztf"
    assert (settings.scores_topic, settings.candidates_topic) == ("dgl.ztf.scores", "dgl.ztf.candidates")
    assert settings.dead_letters_topic == "dgl.ztf.deadletters"
    assert settings.filters_in_force == ["lensed_sn_ztf"]
    assert (settings.input.start, settings.input.nights, settings.output.refused) == ("committed", 2, "scorable")
    assert settings.delivery == "at_least_once" and settings.metrics.port is None and settings.companions.store == "none"
    assert settings.published_programids == {1}


def test_empty_list_of_filters_scores_everything(write):
    assert load_settings(write(LEAST + "filters: []\n"), {}).filters_in_force == []


def test_lsst_has_no_programmes(write):
    assert load_settings(write(LEAST.replace("ztf", "lsst")), {}).published_programids is None


def test_environment_overrides_sections_and_kafka_keys(write):
    environ = {
        "DGL_BROKER__DEVICE": "cuda:1",
        "DGL_BROKER__BATCH__MAX_ALERTS": "12",
        "DGL_BROKER__PREVALENCE": "1e-7",
        "DGL_BROKER__INPUT__TOPICS": "[a, b]",
        "DGL_BROKER__OUTPUT__REFUSED": "0.25",
        "DGL_BROKER__KAFKA__GROUP_ID": "broker-dgl",
        "DGL_BROKER__KAFKA__SASL_PASSWORD": "[not: yaml",
        "DGL_BROKER__KAFKA__SESSION_TIMEOUT_MS": "9000",
        "HOME": "/home/someone",
    }
    settings = load_settings(write(), environ)
    assert (settings.device, settings.batch.max_alerts, settings.prevalence) == ("cuda:1", 12, 1e-7)
    assert settings.input.topics == ["a", "b"] and settings.output.refused == 0.25
    assert settings.group_id == "broker-dgl" and settings.kafka["session.timeout.ms"] == "9000"
    assert settings.kafka["sasl.password"] == "[not: yaml"


def test_secrets_come_from_the_environment_and_are_not_shown(write):
    environ = {
        "DGL_BROKER__KAFKA__SASL_PASSWORD": "hunter2",
        "DGL_BROKER__OUTPUT__REGISTRY": "http://registry:8081",
        "DGL_BROKER__OUTPUT__REGISTRY_PASSWORD": "12345",
        "DGL_BROKER__COMPANIONS__STORE": "redis",
        "DGL_BROKER__COMPANIONS__URL": "redis://:swordfish@cache:6379/0",
    }
    settings = load_settings(write(), environ)
    assert set(settings.secrets()) == {"hunter2", "12345", "swordfish"}
    assert "12345" not in repr(settings)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("kafka: {bootstrap.servers: b, sasl.password: hunter2}", "kafka.sasl.password"),
        ("kafka: {bootstrap.servers: b, ssl.key.pem: hunter2}", "kafka.ssl.key.pem"),
        ("kafka: {bootstrap.servers: b, sasl.oauthbearer.client.secret: hunter2}", "kafka.sasl.oauthbearer.client.secret"),
        ("output: {registry: 'http://u:hunter2@h/'}", "output.registry"),
        ("output: {registry_password: hunter2}", "output.registry_password"),
        ("companions: {store: redis, url: 'redis://:hunter2@h'}", "companions.url"),
    ],
)
def test_secret_in_the_file_is_a_problem_that_does_not_repeat_it(write, line, key):
    section = line.split(":")[0]
    text = "".join(part + "\n" for part in LEAST.splitlines() if not part.startswith(section)) + line + "\n"
    found = problems(write(text))
    assert "secret in the file" in found[key].found and "environment, as DGL_BROKER__" in found[key].expected
    assert "hunter2" not in "".join(map(str, found.values()))


def test_every_problem_is_told_at_once(write):
    text = """
survey: zft
devise: cpu
prevalence: 2
kafka: {boostrap.servers: x, session.timeout.ms: -1, enable.auto.commit: true}
input: {topics: [], nigths: 3, start: yesterday, programids: [one]}
output: {refused: 1.5, scores: "a b"}
batch: 7
overload: {max_age_s: 0}
metrics: {port: 70000}
"""
    found = problems(write(text), DGL_BROKER__BATCH__MAX_ALERT="1", DGL_BROKER__METRICS__PROT="1")
    assert set(found) == {
        "survey", "devise", "prevalence", "kafka.bootstrap.servers", "kafka.boostrap.servers", "kafka.session.timeout.ms",
        "kafka.enable.auto.commit", "input.topics", "input.nigths", "input.start", "input.programids.0", "output.refused",
        "output.scores", "batch", "overload.max_age_s", "metrics.port", "DGL_BROKER__BATCH__MAX_ALERT",
        "DGL_BROKER__METRICS__PROT",
    }  # fmt: skip
    assert str(found["survey"]) == "survey: found 'zft', expected 'ztf' or 'lsst'"
    for key, nearest in (
        ("devise", "device"),
        ("kafka.boostrap.servers", "bootstrap.servers"),
        ("input.nigths", "nights"),
        ("DGL_BROKER__BATCH__MAX_ALERT", "max_alerts"),
        ("DGL_BROKER__METRICS__PROT", "port"),
    ):
        assert found[key].expected.endswith(f"nearest known one is {nearest}")
    with pytest.raises(ConfigError) as error:
        load_settings(write(text), {})
    assert "found 'zft'" in str(error.value) and "nearest known one is device" in str(error.value)
    assert error.value.exit_code == 2


def test_empty_file_names_the_three_keys(write):
    assert set(problems(write("")) | problems(write("kafka: {}\n"))) == {"survey", "kafka.bootstrap.servers", "input.topics"}


@pytest.mark.parametrize("topic", ["ztf_{night:%Y%m%d}_programid1", "lsst-alerts-v11", "a.b_c-1"])
def test_topics_and_templates_are_taken(write, topic):
    assert load_settings(write(LEAST.replace("[alerts]", f"['{topic}']")), {}).input.topics == [topic]


@pytest.mark.parametrize("topic", ["^ztf_.*", "ztf_{date}", "ztf_{night", "ztf_{night.real}", "ztf_{}", "a b", "", "{night!r}"])
def test_regular_expressions_and_odd_templates_are_not(write, topic):
    assert "input.topics.0" in problems(write(LEAST.replace("[alerts]", f"['{topic}']")))


def test_topics_that_would_feed_themselves_are_refused(write):
    found = problems(write(LEAST + "output: {scores: alerts, candidates: one, dead_letters: one}\n"))
    assert "feed itself" in found["output.scores"].expected
    assert "output.candidates" in found["output.dead_letters"].expected


def test_kerberos_is_named_where_the_library_lacks_it(write):
    from dgl_broker.librdkafka import property_problem

    if property_problem("builtin.features", "sasl_gssapi") is None:
        pytest.skip("this librdkafka has Kerberos")
    found = problems(write(LEAST.replace("{boot", "{sasl.mechanism: GSSAPI, boot")))
    assert "wheels have none" in found["kafka.sasl.mechanism"].expected


def test_relative_paths_are_relative_to_the_file(write, tmp_path):
    text = LEAST.replace("[alerts]}", "[alerts], schemas: schemas}") + "filters: [lensed_sn_ztf, mine/f.yaml]\nbundle: ./b\n"
    settings = load_settings(write(text), {})
    assert settings.input.schemas == str(tmp_path / "schemas") and settings.bundle == str(tmp_path / "b")
    assert settings.filters_in_force == ["lensed_sn_ztf", str(tmp_path / "mine/f.yaml")]
    assert settings.output.spill == str(tmp_path / "spill")


def test_start_times_are_utc_unless_they_say_otherwise():
    # 2026-11-22T02:00:00Z by `date -u -d ... +%s`
    assert parse_start("2026-11-22T02:00:00Z") == parse_start("2026-11-22T02:00:00") == 1795312800000
    assert parse_start("2026-11-22T04:00:00+02:00") == 1795312800000


def test_shipped_examples_have_no_problem_but_missing_secrets():
    from pathlib import Path

    examples = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
    assert len(examples) >= 3
    for path in examples:
        found = check_rekey_settings(path, {})[1] if path.stem == "rekey" else problems(path)
        assert not found, path


def test_check_config_prints_each_problem_and_ends_with_2(write, capsys):
    from dgl_broker.cli import main

    assert main(["check-config", str(write("survey: zft\n"))]) == 2
    printed = capsys.readouterr().out.splitlines()
    assert "survey: found 'zft', expected 'ztf' or 'lsst'" in printed
    assert printed[-1].endswith("broker.yaml: 3 problems")


def test_check_config_looks_for_the_things_that_are_named(write, capsys, monkeypatch):
    from dgl_broker.cli import main

    text = LEAST + "bundle: ./none\nfilters: [no_such_filter]\ncompanions: {remember: {x: {min: a}}}\n"
    text = text.replace("{boot", "{sasl.mechanism: PLAIN, security.protocol: SASL_PLAINTEXT, boot")
    assert main(["check-config", str(write(text))]) == 2
    printed = capsys.readouterr().out
    for key in ("bundle:", "filters.0:", "companions.remember:", "kafka:"):
        assert f"\n{key} found" in "\n" + printed


def test_check_config_reads_the_schemas_of_descs_message(write, capsys):
    from dgl_broker.cli import main

    text = LEAST.replace("survey: ztf", "survey: lsst") + "output: {desc: {topic: to.desc, schemas: .}}\n"
    assert main(["check-config", str(write(text))]) == 2
    assert "output.desc.schemas: found DESC's message: no fastdb.v10_0_0.BrokerMessage.avsc" in capsys.readouterr().out


def test_page_of_the_configuration_lists_every_key_with_its_default():
    from pathlib import Path

    from dgl_broker.settings_model import Desc, Settings
    from dgl_broker.settings_reading import _section_of

    def rows(model, prefix=""):
        for name, field in model.model_fields.items():
            section = _section_of(model, name)
            if section in (None, Desc):
                default = field.get_default(call_default_factory=True)
                shown = "required" if field.is_required() else "-" if default is None else f"`{default}`"
                yield f"| `{prefix}{name}` | {shown} | {field.description} |"
            if section is not None:
                yield from rows(section, f"{prefix}{name}.")

    page = (Path(__file__).parents[1] / "docs/configuration.md").read_text().split("# rekey.yaml")[0]
    assert [line for line in page.splitlines() if line.startswith("| `")] == list(rows(Settings))

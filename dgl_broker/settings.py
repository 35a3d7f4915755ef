"""From `broker.yaml` and the environment to `Settings`, or to the list of all that is wrong with them."""

from pathlib import Path

from dgl_broker.settings_model import Settings, parse_start
from dgl_broker.settings_reading import Problem, kafka_problems, raise_problems, read_layered, resolved_path, validated

__all__ = ["Problem", "Settings", "check_settings", "load_settings", "parse_start"]


def _cross_problems(settings):
    """What single keys cannot show."""
    problems = []
    ours = {
        "output.scores": settings.scores_topic,
        "output.candidates": settings.candidates_topic,
        "output.dead_letters": settings.dead_letters_topic,
        "reports.topic": settings.reports_topic,
        "reports.state": settings.reports_state_topic,
    }
    if settings.output.desc:
        ours["output.desc.topic"] = settings.output.desc.topic
    seen = {}
    for key, topic in ours.items():
        if topic in settings.input.topics:
            problems.append(Problem(key, topic, "another topic than those that are read: it would feed itself"))
        if topic in seen:
            problems.append(Problem(key, topic, f"another topic than {seen[topic]} has"))
        seen.setdefault(topic, key)
    if settings.companions.store == "redis" and not settings.companions.url:
        problems.append(Problem("companions.url", "nothing", "the URL of the server, redis://host:port/db"))
    if settings.output.desc and settings.survey != "lsst":
        problems.append(Problem("output.desc", "it with survey ztf", "survey: lsst, whose alerts BrokerMessage holds"))
    return problems


def _resolve_paths(raw, folder):
    out = dict(raw)
    for key in ("bundle", "shadow_bundle", "status"):
        if key in out:
            out[key] = resolved_path(out[key], folder)
    if isinstance(out.get("filters"), list):
        out["filters"] = [resolved_path(f, folder) for f in out["filters"]]
    output = out.get("output", {})
    places = [(out.get("input"), "schemas"), (out.get("metrics"), "reference"), (output, "spill")]
    if isinstance(output, dict):
        out["output"] = output
        output.setdefault("spill", "spill")
        places.append((output.get("desc"), "schemas"))
    for values, key in places:
        if isinstance(values, dict) and isinstance(values.get(key), str) and "://" not in values[key]:
            values[key] = str((folder / Path(values[key]).expanduser()).resolve())
    return out


def check_settings(path, environ=None):
    """(settings or None, problems) of the file `path` under the environment `environ`.

    Raises
    ------
    ConfigError, InputUnavailable
        If the file is not there or is not YAML, so that nothing more can be said.
    """
    raw, problems = read_layered(path, environ)
    if raw is None:
        return None, problems
    raw.setdefault("input", {})
    raw = _resolve_paths(raw, Path(path).resolve().parent)
    settings, found = validated(raw)
    problems += found
    if settings is not None:
        problems += _cross_problems(settings)
    if isinstance(raw["kafka"], dict):
        problems += kafka_problems(raw["kafka"], raw.get("delivery"))
    return (None if problems else settings), problems


def load_settings(path, environ=None):
    """Settings of the file `path` under the environment's overrides.

    Parameters
    ----------
    path : path
        `broker.yaml`. Relative paths in it are relative to its folder.
    environ : mapping, optional
        `os.environ` where not given. `DGL_BROKER__SECTION__KEY` overrides a key.

    Raises
    ------
    ConfigError
        With every problem, each with its key, what was found and what was expected.
    InputUnavailable
        If there is no such file.
    """
    settings, problems = check_settings(path, environ)
    raise_problems(path, problems)
    return settings

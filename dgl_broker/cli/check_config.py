"""`dgl-broker check-config`: every problem of a configuration at once, each with its key, what was found and what was expected.

First what the file and the environment say, then whether the things they name are there: filters, bundle, schemas, clients
that librdkafka would make. Nothing is asked of the network. A file with a section `rekey` is one of `dgl-broker rekey`.
"""

import contextlib
from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("check-config", help="every problem of a configuration at once")
    parser.add_argument("config", type=Path, metavar="broker.yaml|rekey.yaml")


def run(args):
    """Check; 0 where nothing is wrong, 2 where something is."""
    from dgl_broker.errors import ConfigError
    from dgl_broker.yaml_reader import read_yaml

    raw = read_yaml(args.config)
    check = _rekey if isinstance(raw, dict) and "rekey" in raw else _broker
    problems, remarks = check(args.config)
    for problem in problems:
        print(problem)
    for remark in remarks:
        print(f"note: {remark}")
    if problems:
        print(f"{args.config}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
        return ConfigError.exit_code
    print(f"{args.config}: nothing wrong")
    return 0


def _broker(path):
    from dgl_broker.settings import check_settings

    settings, problems = check_settings(path)
    return (problems, []) if settings is None else missing_things(settings)


def _rekey(path):
    from dgl_broker.settings_rekey import check_rekey_settings

    settings, problems = check_rekey_settings(path)
    remarks = []
    if settings is not None:
        _check_filters(settings, None, problems)
        _check_schemas(settings, problems, remarks)
        _check_clients(settings, problems)
        if settings.filters == []:
            remarks.append("filters: []: every alert that can be read is written")
        _remark_on_port(settings, remarks)
    return problems, remarks


def missing_things(settings):
    """(problems, remarks) of settings that are sound in themselves.

    Returns
    -------
    problems : list of Problem
        What would keep `run` from starting.
    remarks : list of str
        What an operator should know.
    """
    problems, remarks = [], []
    bundle = _check_bundle(settings, problems)
    _check_shadow(settings, bundle, problems)
    _check_filters(settings, bundle, problems)
    _check_companions(settings, problems)
    _check_schemas(settings, problems, remarks)
    _check_desc(settings, problems)
    _check_reference(settings, bundle, problems, remarks)
    _check_reports(settings, problems, remarks)
    _check_clients(settings, problems)
    if settings.filters == []:
        remarks.append("filters: []: everything scorable is scored, and nothing is a candidate")
    _remark_on_port(settings, remarks)
    return problems, remarks


def _remark_on_port(settings, remarks):
    if settings.metrics.port is not None and settings.metrics.host not in ("127.0.0.1", "::1", "localhost"):
        remarks.append(
            f"metrics.host {settings.metrics.host}: who can reach this port reads the metrics, unasked for a password"
        )


def _try(problems, key, work, expected):
    """The result of `work`, or None with its error as a problem of `key`."""
    from dgl_broker.errors import DglError
    from dgl_broker.settings import Problem

    try:
        return work()
    except DglError as error:
        found = " ".join(str(error).split())
        if not any(p.key == key and p.found == found for p in problems):
            problems.append(Problem(key, found, expected))
        return None


def _check_bundle(settings, problems):
    from dgl_broker.model import load_bundle

    def load():
        return load_bundle(settings.bundle, survey=settings.survey)

    return _try(problems, "bundle", load, "the id of a shipped bundle, or a sound bundle's folder")


def _check_shadow(settings, bundle, problems):
    from dgl_broker.model import load_bundle
    from dgl_broker.settings import Problem

    if settings.shadow_bundle is None:
        return
    expected = "the id of a shipped bundle, or a sound bundle's folder, other than the one in force"
    shadow = _try(problems, "shadow_bundle", lambda: load_bundle(settings.shadow_bundle, survey=settings.survey), expected)
    if shadow is not None and shadow.survey != settings.survey:
        problems.append(Problem("shadow_bundle", f"a bundle for {shadow.survey}", f"one for {settings.survey}"))
    elif shadow is not None and bundle is not None and shadow.sha256 == bundle.sha256:
        problems.append(Problem("shadow_bundle", "the bundle in force itself", "another one, or none"))


def _check_filters(settings, bundle, problems):
    from dgl_broker.selection import FilterSet, load_filter

    sound = []
    for n, name in enumerate(settings.filters_in_force):
        key = "filters" if settings.filters is None else f"filters.{n}"
        read = _try(problems, key, lambda name=name: load_filter(name), "a sound filter, by file or by name of a shipped one")
        sound += [] if read is None else [read]
    together = _try(problems, "filters", lambda: FilterSet(sound), "filters that go together")
    if together is not None:
        _try(problems, "filters", lambda: together.check_survey(settings.survey), f"filters for {settings.survey}")
        if bundle is not None:
            _try(problems, "filters", lambda: together.check_bundle(bundle.sha256), "filters tuned for this bundle")


def _check_companions(settings, problems):
    from dgl_broker.selection import predicate

    remember = settings.companions.remember
    if remember:
        key = "companions.remember"
        _try(problems, key, lambda: predicate(remember, key), "criteria as in a filter's `require`")


def _check_schemas(settings, problems, remarks):
    from dgl_broker.wire import FolderSchemas

    place = settings.input.schemas
    if place is not None and "://" not in place:
        _try(problems, "input.schemas", lambda: FolderSchemas(place), "a folder of schemas, or a registry's URL")
    elif place is None and settings.survey == "lsst":
        remarks.append("input.schemas is not set: framed LSST packets, as the survey sends them, cannot be read without")


def _check_desc(settings, problems):
    from dgl_broker.outputs.desc import broker_message_schema

    desc = settings.output.desc
    if desc is not None:
        work, expected = lambda: broker_message_schema(Path(desc.schemas)), "a folder with the official schemas"
        _try(problems, "output.desc.schemas", work, expected)


def _check_reference(settings, bundle, problems, remarks):
    from dgl_broker.observe.drift import read_reference

    place = settings.metrics.reference
    if place is None:
        return
    found = _try(problems, "metrics.reference", lambda: read_reference(place), "a file that `dgl-broker reference` wrote")
    if found is not None and bundle is not None and found.bundle_sha256 != bundle.sha256:
        remarks.append("metrics.reference: scores of another bundle than this: no drift will be told")


def _check_reports(settings, problems, remarks):
    from dgl_broker.errors import DglError
    from dgl_broker.selection import load_filter
    from dgl_broker.settings import Problem

    chosen = settings.reports
    if chosen.filters is not None:
        known = set()
        for name in settings.filters_in_force:
            with contextlib.suppress(DglError):  # told under filters
                known.add(load_filter(name).name)
        for n, name in enumerate(chosen.filters):
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                problems.append(Problem(f"reports.filters.{n}", repr(name), f"the name of a filter in force: {there}"))
    if chosen.webhook_token is not None and str(chosen.webhook).startswith("http://"):
        remarks.append("reports.webhook: the token goes over the network unencrypted; https:// would hide it")
    if chosen.webhook_token is not None and chosen.webhook is None:
        problems.append(Problem("reports.webhook", "nothing", "the URL that the token is for"))


def _check_clients(settings, problems):
    from dgl_broker.stream.clients import make_consumer, make_producer
    from dgl_broker.stream.delivery import transactional_id

    quiet = {"log_level": 0}
    kafka, group = settings.kafka, settings.group_id
    transactional = transactional_id(kafka, group) if settings.delivery == "exactly_once" else None

    def make_both():
        make_consumer(kafka | quiet, group).close()
        make_producer(kafka | quiet, transactional)

    _try(problems, "kafka", make_both, "keys that go together")

"""The actions of `dgl-broker tune` on the terminal: what the page does, without a server and without a token."""

import getpass
import json
import sys
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError


def user():
    """Who runs this, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def make_desk(args, scores=True, said=lambda text: None):
    """(the desk, the settings or None) that the options ask for."""
    from dgl_broker.tune.alerts import read_alerts
    from dgl_broker.tune.desk import Desk
    from dgl_broker.tune.filter_file import FilterFile
    from dgl_broker.tune.running import bundle_on_disk

    settings = None
    if args.config is not None:
        from dgl_broker.settings import load_settings

        settings = load_settings(args.config)
    alerts = None
    if scores and args.scores:
        said(f"reading {', '.join(args.scores)}")
        tables = [_published(s, settings) if is_topic(s) else Path(s) for s in args.scores]
        alerts = read_alerts(tables, args.labels, args.sampled)
        share = "" if alerts.sampled == 1.0 else f", a share of {alerts.sampled:g} of the stream"
        said(f"{len(alerts)} alerts{share}, bundles {', '.join(b.id for b in alerts.bundles.values())}")
    names = args.filter or (settings.filters_in_force if settings is not None else _filters_of(alerts))
    if not names:
        raise ConfigError("no filter: give --config or --filter")
    status = args.status or (settings.status if settings is not None else None)
    configured = None if settings is None else bundle_on_disk(settings.bundle, settings.survey)[1]
    prevalence = args.prevalence or (settings.prevalence if settings is not None else 1e-6)
    return Desk([FilterFile(name, status) for name in names], alerts, prevalence, configured), settings


def is_topic(scores):
    """Whether scores are named by a topic and not by a file."""
    return scores.startswith("kafka:")


def _published(text, settings):
    """What the filter published on a topic, as columns."""
    from dgl_broker.archive.score_columns import columns_of_records
    from dgl_broker.stream.replaying import score_records
    from dgl_broker.stream.stopping import Stop
    from dgl_broker.tune.alerts import is_wanted

    if settings is None:
        raise ConfigError(f"--scores {text} without --config: expected the broker.yaml of the brokers")
    # Not installed: a signal ends the command, as it does everywhere else here.
    return columns_of_records(score_records(text, settings, Stop()), text, is_wanted)


def _filters_of(alerts):
    """The shipped filters of the surveys that the tables are of."""
    return [] if alerts is None else [f"lensed_sn_{survey}" for survey in alerts.surveys]


def _one(desk, args):
    """The one filter that an action is about."""
    if len(desk.files) > 1:
        raise ConfigError(f"filters {', '.join(desk.files)}: say which with --filter FILE")
    return next(iter(desk.files.values()))


def _need_scores(args):
    if not args.scores:
        raise ConfigError(f"tune {args.action}: no --scores, expected a table of `dgl-broker replay`")


def _proposal(args, file):
    from dgl_broker.selection import load_filter
    from dgl_broker.selection.criteria import write_criteria
    from dgl_broker.tune.desk import Proposal

    asked = {"completeness": args.completeness, "fpr": args.fpr, "candidates_per_night": args.candidates}
    point = next(((metric, value) for metric, value in asked.items() if value is not None), None)
    require = None if args.precuts is None else write_criteria(load_filter(args.precuts).require)
    return Proposal(file.name, args.bundle, args.threshold, point, require)


def show(args):
    """Filters in force."""
    from dgl_broker.tune.state import filter_state
    from dgl_broker.tune.text import filter_text

    desk, _ = make_desk(args, scores=not (args.filter or args.config))
    states = [filter_state(file) for file in desk.files.values()]
    print(_json(states) if args.json else "\n\n".join(filter_text(state) for state in states))
    return 0


def preview(args):
    """What a threshold would do."""
    from dgl_broker.tune.cards import describe
    from dgl_broker.tune.text import preview_text

    _need_scores(args)
    desk, _ = make_desk(args)
    out = desk.preview(_proposal(args, _one(desk, args)))
    for side in ("entering", "leaving"):
        out["changes"][side]["rows"] = [describe(desk.alerts, row) for row in out["changes"][side]["rows"]]
    print(_json(out) if args.json else preview_text(out))
    return 0


def activate(args):
    """Put a threshold into force; 7 where a guard refuses it."""
    from dgl_broker.tune.text import preview_text

    _need_scores(args)
    desk, _ = make_desk(args)
    file = _one(desk, args)
    expected = file.in_force.version if args.expected_version is None else args.expected_version
    proposal = _proposal(args, file)
    print(preview_text(desk.preview(proposal)))
    new, arrival = desk.activate(proposal, expected, args.who or user(), args.reason, args.wait)
    return _told(new, arrival)


def rollback(args):
    """Put an earlier version into force again."""
    desk, _ = make_desk(args, scores=False)
    file = _one(desk, args)
    now = file.in_force.version
    to = args.to
    if to is None:
        changes, _ = file.history()
        to = next((c["from_version"] for c in changes if c["version"] == now), None)
        if to is None:
            raise ConfigError(f"{file.name}: the audit log does not say what was before version {now}; name one with --to")
    expected = now if args.expected_version is None else args.expected_version
    return _told(*desk.roll_back(file.name, to, expected, args.who or user(), args.reason, args.wait))


def history(args):
    """Who changed what."""
    from dgl_broker.tune.text import history_text

    desk, _ = make_desk(args, scores=False)
    file = _one(desk, args)
    changes, broken = file.history()
    print(_json({"changes": changes, "broken_lines": broken}) if args.json else history_text(changes))
    if broken:
        print(f"lines {', '.join(map(str, broken))} of the audit log cannot be read", file=sys.stderr)
    return 0


def carry(args):
    """The filter for a refreshed bundle; 7 where a guard refuses it."""
    from dgl_broker.tune.carry import carry as carried_over
    from dgl_broker.tune.carry import write_carried
    from dgl_broker.tune.text import carried_text

    _need_scores(args)
    desk, _ = make_desk(args)
    carried = carried_over(desk, _one(desk, args).name, args.to, args.by)
    print(carried_text(carried))
    new, path = write_carried(desk, carried, args.who or user(), args.reason, args.out)
    print(f"\n{path}: version {new.version}; name it in `filters` of broker.yaml together with the new bundle")
    return 0


def copy(args):
    """Shipped filters into a folder where they can be changed."""
    desk, _ = make_desk(args, scores=False)
    shipped = [file for file in desk.files.values() if file.is_shipped]
    if not shipped:
        raise ConfigError(f"filters {', '.join(desk.files)}: none of them ships with the package")
    copies = [file.copy_to(args.to) for file in shipped]
    own = [str(file.path) for file in desk.files.values() if not file.is_shipped]
    print("\n".join(f"{path}: version {file.in_force.version}" for path, file in zip(copies, shipped)))
    print(f"in broker.yaml, then restart: filters: [{', '.join([*own, *map(str, copies)])}]")
    return 0


def _told(new, arrival):
    print(f"\n{new.name}: version {new.version} written, {new.score} at least {new.threshold:.10g}\n{arrival}")
    return 0 if arrival.complete else 1


def _json(value):
    def plain(one):
        if isinstance(one, np.ndarray):
            return one.tolist()
        raise TypeError(type(one).__name__)

    return json.dumps(value, indent=1, ensure_ascii=False, default=plain)

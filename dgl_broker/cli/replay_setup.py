"""What `dgl-broker replay` is made of: the command line and `broker.yaml` as a `Replay`, ready to run."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dgl_broker import __version__
from dgl_broker.errors import ConfigError, InputUnavailable

KAFKA = "kafka:"
_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})\Z")


class Interrupted(Exception):
    """Asked to stop while the archive is read through: nothing is begun."""


@dataclass
class Prepared:
    """A replay and what stands beside it."""

    replay: object
    left_out: dict
    n_injected: int | None = None


def prepare(args, progress, stop):
    """A `Prepared` from the arguments of the command.

    Raises
    ------
    ConfigError, InputUnavailable, ServiceFailed, StateError, DeviceUnavailable, GuardRefused
        If what was asked for makes no sense or is not to be had.
    Interrupted
    """
    from dgl_broker.archive.catalogue import read_catalogue
    from dgl_broker.archive.inject import make_injection, write_labels
    from dgl_broker.archive.keep import parse_keep
    from dgl_broker.archive.pace import parse_pace
    from dgl_broker.archive.places import Places, agree_with_shards
    from dgl_broker.archive.replay import Replay
    from dgl_broker.archive.tables import Rows

    settings = _settings(args)
    survey = _survey(args, settings)
    part, keep, pace = _part(args), parse_keep(args.keep_packets), parse_pace(args.speed, args.rate)
    _check(args, settings)
    places = Places(args.out, part.shard, args.by_night, args.ledger)
    whole = _sources(args, settings, stop)
    sources, parted = part.of_sources(whole), _parted(part, whole)
    agree_with_shards(places, parted)
    scorer = _scorer(args, settings, survey)
    judge = _judge(args, settings, scorer, stop)

    def reading(n):
        progress.reading(n)
        if stop():
            raise Interrupted

    catalogue = read_catalogue(sources, survey, scorer.head, reading)
    injection = None
    if args.inject is not None:
        injection = make_injection(args.inject, args.inject_seed, catalogue, survey)
        catalogue = catalogue.joined(read_catalogue([injection], survey, scorer.head, reading))
    order, left_out = part.choose(catalogue, survey)
    sink = None
    if args.to_kafka:
        from dgl_broker.stream.replaying import ReplayPublisher

        sink = ReplayPublisher(settings, args.topic_prefix, scorer, scorer.schemas, stop)
    labels = None
    if injection is not None:
        mine = set(catalogue.rows["alert_id"][order].tolist())
        labels = [row for row in injection.labels() if row["alert_id"] in mine]
    rows = Rows(scorer, judge.filters, args.ungated) if args.out is not None else None
    plan = {
        "version": __version__,
        "survey": survey,
        "inputs": [[one["name"], one["sha256"]] for one in catalogue.inputs],
        **_part_plan(args, part),
        **parted,
        "bundle_id": scorer.bundle_id,
        "bundle_sha256": scorer.bundle_sha256,
        "shadow_bundle_sha256": None if scorer.shadow is None else scorer.shadow.bundle.sha256,
        "calibration_id": getattr(scorer.bundle.calibration, "calibration_id", None),
        "device": scorer.device_name,
        "precision": scorer.ensemble.precision,
        "prevalence": scorer.ensemble.prevalence,
        **judge.plan(),
        "ungated": args.ungated,
        "companions": _companions(args, settings),
        "batch_size": args.batch_size,
        "speed": pace.speed,
        "rate": pace.rate,
        "keep_packets": str(keep) if keep else "none",
        "by_night": args.by_night,
        "published_to": sink.topics if sink else [],
    }

    def at_end():
        agree_with_shards(places, parted)  # one that began beside this may have ended since
        write_labels(places.beside("injected.csv"), labels)

    replay = Replay(
        judge,
        rows,
        catalogue,
        order,
        plan,
        places,
        batch_size=args.batch_size,
        pace=pace,
        keep=keep,
        sink=sink,
        companions=bool(_companions(args, settings)),
        restart=args.restart,
        at_end=at_end,
    )
    return Prepared(replay, left_out, None if labels is None else len(labels))


def _settings(args):
    if args.config is None:
        return None
    from dgl_broker.settings import load_settings

    return load_settings(args.config)


def _survey(args, settings):
    survey = args.survey or (settings.survey if settings else None)
    if survey is None:
        raise ConfigError("--survey: nothing, expected ztf or lsst (or --config, which names it)")
    if settings and settings.survey != survey:
        raise ConfigError(f"--survey {survey}, but {args.config} is of {settings.survey}")
    return survey


def _check(args, settings):
    if args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size}, expected 1 or more")
    if args.out is None and not args.to_kafka:
        raise ConfigError("neither --out nor --to-kafka: expected at least one of them")
    if args.to_kafka and settings is None:
        raise ConfigError("--to-kafka without --config: expected the broker.yaml that names the brokers and the topics")
    if args.to_kafka and args.inject is not None and args.out is None:
        raise ConfigError("--inject without --out: injected alerts are never published, so nothing would hold them")
    if args.to_kafka and not args.topic_prefix:
        raise ConfigError("--topic-prefix '': expected a prefix, since a replay must not be taken for the live stream")
    if args.keep_packets != "none" and args.out is None:
        raise ConfigError("--keep-packets without --out: packets are kept beside a table")
    if args.shard_by == "source" and _companions(args, settings):
        raise ConfigError("--shard-by source with companions: an object's earlier stamps may be in another shard's sources")
    if args.shard_by == "source" and args.inject is not None:
        raise ConfigError("--shard-by source with --inject: injections are placed among all alerts, which no shard reads")
    if args.live_records is not None and args.verdicts != "then":
        raise ConfigError(f"--live-records with --verdicts {args.verdicts}, expected --verdicts then")


def _part(args):
    from dgl_broker.archive.catalogue import Part

    found = _SHARD.match(args.shard)
    if not found or not int(found[1]) < int(found[2]):
        raise ConfigError(f"--shard {args.shard}, expected i/n with i from 0 to n - 1, such as 0/4")
    if not 0 < args.sample <= 1:
        raise ConfigError(f"--sample {args.sample}, expected more than 0 and at most 1")
    first, end = _mjd(args.first, "--from"), _mjd(args.end, "--to")
    if first is not None and end is not None and first >= end:
        raise ConfigError(f"--from {args.first} --to {args.end}, expected a window that ends after it begins")
    objects = None
    if args.objects is not None:
        try:
            lines = args.objects.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputUnavailable(f"--objects {args.objects}: cannot be read: {error}") from error
        objects = frozenset(line.split("#")[0].strip() for line in lines) - {""}
        if not objects:
            raise ConfigError(f"--objects {args.objects}: no id in it")
    return Part(first, end, objects, args.sample, (int(found[1]), int(found[2])), args.shard_by)


def _mjd(text, option):
    """An ISO time (UTC where no zone is given) as MJD TAI, or None."""
    if text is None:
        return None
    from dgl_broker.cli.looking_back import parse_time
    from dgl_broker.photometry import mjd_tai_from_jd_utc

    return float(mjd_tai_from_jd_utc(parse_time(text, option) / 86_400_000.0 + 2440587.5))  # JD of 1970-01-01


def _part_plan(args, part):
    objects = None if part.objects is None else hashlib.sha256("\n".join(sorted(part.objects)).encode()).hexdigest()
    return {
        "from_mjd_tai": part.first_mjd,
        "to_mjd_tai": part.end_mjd,
        "objects": objects,
        "sample": part.sample,
        "shard": list(part.shard),
        "inject": None if args.inject is None else [str(args.inject), args.inject_seed],
    }


def _parted(part, sources):
    """How the archive is parted; by source this hangs on what sources there are, so that their names belong to it."""
    if part.shard_by == "object" or part.shard[1] == 1:
        return {"shard_by": "object"}
    names = hashlib.sha256("\n".join(source.name for source in sources).encode()).hexdigest()
    return {"shard_by": "source", "of_sources": len(sources), "of_sources_sha256": names}


def _sources(args, settings, stop):
    from dgl_broker.archive.sources import FileSource, find_files

    sources = []
    for text in args.sources:
        if not text.startswith(KAFKA):
            sources += [FileSource(path) for path in find_files([text])]
            continue
        if settings is None:
            raise ConfigError(f"{text} without --config: expected the broker.yaml that names the brokers")
        from dgl_broker.stream.replaying import topic_ranges

        sources += topic_ranges(text, settings, stop)
    return sources


def _companions(args, settings):
    """Days for which earlier stamps are kept in this process, or None for no companions."""
    if settings and settings.companions.store != "none":
        return settings.companions.expire_days
    from dgl_broker.companions.companion import DEFAULT_EXPIRE_DAYS

    return DEFAULT_EXPIRE_DAYS if args.companions else None


def _scorer(args, settings, survey):
    from dgl_broker.companions import open_store
    from dgl_broker.scorer import Scorer
    from dgl_broker.selection import predicate

    if args.verdicts not in ("now", "then"):
        if args.filters:
            raise ConfigError(f"--filters beside --verdicts {args.verdicts}, expected one of them")
        filters = [args.verdicts]
    else:
        filters = args.filters or (settings.filters_in_force if settings else [])
    days = _companions(args, settings)
    remember = settings.companions.remember if settings else None
    return Scorer(
        survey=survey,
        bundle=args.bundle or (settings.bundle if settings else "default"),
        device=args.device or (settings.device if settings else "cpu"),
        filters=filters,
        schemas=_schemas(args, settings),
        companions=None if days is None else open_store("memory", expire_days=days),
        remember=predicate(remember, "companions.remember") if days and remember else None,
        prevalence=args.prevalence if args.prevalence is not None else (settings.prevalence if settings else 1e-6),
        ungated=args.ungated,
        batch_size=args.batch_size,
        shadow=args.shadow_bundle or (settings.shadow_bundle if settings else None),
        programids=sorted(settings.published_programids) if settings and settings.published_programids is not None else None,
    )


def _schemas(args, settings):
    """Source of the writers' schemas; with an injection of LSST packets, those of our own writer too."""
    from dgl_broker.wire import schema_source

    if args.schemas or settings is None:
        found = schema_source(args.schemas)
    else:
        read = settings.input
        password = read.schemas_password.get_secret_value() if read.schemas_password else None
        options = {"timeout_s": settings.service.timeout_s} if str(read.schemas).startswith("http") else {}
        found = schema_source(read.schemas, read.schemas_user, password, **options)
    if args.inject is None:
        return found
    from dgl_broker.archive.inject import BothSchemas
    from dgl_broker.data_files import folder

    own = Path(args.inject) / "schemas"
    return BothSchemas(found, schema_source(own if own.is_dir() else folder("schemas") / "write"))


def _judge(args, settings, scorer, stop):
    from dgl_broker.archive.verdicts import GIVEN, NOW, Fixed, Then, live_verdicts, read_live_table

    if args.verdicts != "then":
        return Fixed(scorer, NOW if args.verdicts == "now" else GIVEN)
    if args.live_records is None:
        return Then(scorer)
    if not args.live_records.startswith(KAFKA):
        return Then(scorer, live_verdicts(read_live_table(args.live_records)))
    if settings is None:
        raise ConfigError(f"--live-records {args.live_records} without --config: expected the broker.yaml of the brokers")
    from dgl_broker.stream.replaying import score_records

    return Then(scorer, live_verdicts(score_records(args.live_records, settings, stop)))

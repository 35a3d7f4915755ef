"""Three mixes of alerts for each survey: new objects, some twenty earlier rows, and mature ones, with honest sizes.

Of real packets where they are at hand, else of the simulator's. LSST's packets are written by Rubin's own schema, so that each
field that a broker must pass over is there. Histories of wanted lengths are made of real rows: those of an object in a deep
field, moved in time so that they end a night before the trigger.
"""

import io
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import fastavro

from dgl_broker import wire
from dgl_broker.sim.packets import simulate_packets
from dgl_broker.sim.population import draw_system

HERE = Path(__file__).parent
TEST_ALERTS = HERE.parent / "tests/data/alerts"
LSST_ID = 1000  # Rubin's schema 10.0, that of the real alerts collected
SIZES = {"new objects": (0, 0), "20 earlier rows": (10, 10), "mature": (300, 400)}  # detections, forced points


@dataclass(frozen=True)
class Mix:
    """Messages of one survey and one length of history, and the schemas to read them with (None for ZTF)."""

    survey: str
    name: str
    values: tuple
    source: str
    rows: float
    schemas: object = field(default=None, compare=False)

    @property
    def title(self):
        """As tables name it."""
        return f"{self.survey.upper()}, {self.name}"

    @property
    def notes(self):
        """What it is made of."""
        size = sum(map(len, self.values)) / len(self.values)
        of = f"{len(self.values)} messages of {len(set(self.values))} {self.source}"
        return {"alerts": f"{of}, {size / 1000:.1f} kB and {self.rows:.0f} earlier rows on average"}


def mixes(options):
    """Every mix, LSST's three and ZTF's three."""
    n = 4 if options.quick else 27
    real = options.alerts != "simulated" and TEST_ALERTS.is_dir()
    return [*_lsst(n, real), *_ztf(n, real)]


def official_schemas():
    """Rubin's own schemas by id, from the package `lsst-alert-packet`."""
    import lsst.alert.packet

    return wire.FolderSchemas(Path(lsst.alert.packet.__file__).parent / "schema")


def _collected(*patterns):
    """Collected alerts: those of the tests, and those of DGL_SHARED where it is set."""
    folders = [TEST_ALERTS]
    if os.environ.get("DGL_SHARED"):
        folders.insert(0, Path(os.environ["DGL_SHARED"]) / "data/alerts")
    return next((found for f in folders for p in patterns if (found := sorted(f.rglob(p)))), [])


def _lsst(n, real):
    schemas = official_schemas()
    if real:
        paths = _collected("confluent_v10_0_reencoded/*.avro", "169813006129561698.avro")
        records = [_whole(path.read_bytes(), schemas) for path in paths]
        records = [record for record in records if len(record["prvDiaForcedSources"] or ()) < 100]
        source = "real alerts written anew by Rubin's schema 10.0"
    else:
        records = [_whole(value, schemas) for value in _simulated("lsst", n)]
        source = "simulated alerts"
    records = (records * n)[:n]
    rows = _real_history() if real else _simulated_history(records)
    for name, (n_detections, n_forced) in SIZES.items():
        values = [_message(_with_history(record, rows, n_detections, n_forced), schemas) for record in records]
        yield Mix("lsst", name, tuple(values), source, n_detections + n_forced, schemas)


def _whole(value, schemas):
    return wire.open_message(value, None, schemas).whole()


def _message(record, schemas):
    return wire.encode_confluent(_parsed(schemas), LSST_ID, record)


@cache
def _parsed(schemas):
    return wire.parse_schema(schemas.writer_schema(LSST_ID).tree)


def _real_history():
    """(detections, forced points) of the longest real history: an object of the deep field of 2026-03-05."""
    path = _collected("fink_transfer_20260305.avro", "fink_v10_0/*.avro")[0]
    records = _whole_records(path.read_bytes())
    longest = max(records, key=lambda record: len(record["prvDiaSources"] or ()) + len(record["prvDiaForcedSources"] or ()))
    return longest["prvDiaSources"], longest["prvDiaForcedSources"]


def _whole_records(data):
    return list(fastavro.reader(io.BytesIO(data)))


def _simulated_history(records):
    sources = [record["diaSource"] for record in records]
    forced = [row for record in records for row in record["prvDiaForcedSources"] or ()] or [
        {key: source.get(key) for key in source} | {"diaForcedSourceId": source["diaSourceId"]} for source in sources
    ]
    return sources, forced


def _with_history(record, rows, n_detections, n_forced):
    """A record with the last so many of the rows, more than once where there are too few, ending a night before its trigger."""
    trigger = record["diaSource"]
    detections, forced = rows
    return record | {
        "prvDiaSources": _moved(detections, n_detections, trigger) or None,
        "prvDiaForcedSources": _moved(forced, n_forced, trigger),
    }


def _moved(rows, n, trigger):
    rows = sorted(rows, key=lambda row: row["midpointMjdTai"])
    rows = (rows * (n // len(rows) + 1))[-n:] if n else []
    last = trigger["midpointMjdTai"] - 1.0
    return [
        row
        | {
            "visit": int(trigger["visit"]) - n + k,
            "midpointMjdTai": last - 0.5 * (n - 1 - k),
            "timeProcessedMjdTai": last - 0.5 * (n - 1 - k) + 0.001,
            "timeWithdrawnMjdTai": None,
        }
        for k, row in enumerate(rows)
    ]


def _ztf(n, real):
    """ZTF sends 30 days of history, some 50 rows: the mature ones are as long as Rubin's, so that both can be compared."""
    if real:
        packets = [path.read_bytes() for path in _collected("v4_02/*.avro", "*v4_02.avro")]
        packets = [value for value in packets if _n_rows(value) > 10]
    else:
        packets = _simulated("ztf", n)
    source = "real alerts (4.02)" if real else "simulated alerts"
    yield _ztf_mix("new objects", packets, n, f"{source}, histories taken out")
    yield _ztf_mix("20 earlier rows", packets, n, f"{source} as issued")
    yield _ztf_mix("mature", packets, n, f"{source}, rows of their histories repeated at earlier times")


def _ztf_mix(name, values, n, source):
    if name != "20 earlier rows":
        values = [_ztf_with_history(value, *SIZES[name]) for value in values[:n]]
    values = tuple((values * n)[:n])
    return Mix("ztf", name, values, source, sum(map(_n_rows, values)) / n)


def _n_rows(value):
    record = wire.open_message(value, None).record()
    return sum(len(record.get(name) or ()) for name in ("prv_candidates", "fp_hists"))


def _ztf_with_history(value, n_detections, n_forced):
    """A packet whose histories are the last so many rows, a night apart, more than once where there are too few."""
    reader = fastavro.reader(io.BytesIO(value))
    record = next(reader)
    last = record["candidate"]["jd"] - 1.0
    for name, n in (("prv_candidates", n_detections), ("fp_hists", n_forced)):
        rows = sorted(record[name] or (), key=lambda row: row["jd"])
        rows = (rows * (n // len(rows) + 1))[-n:] if n and rows else []
        record[name] = [row | {"jd": last - (n - 1 - k)} for k, row in enumerate(rows)] or None
    return wire.encode_container(reader.writer_schema, record)


def _simulated(survey, n):
    """`n` packets of the simulator, LSST's written by Rubin's own schema."""
    kinds = ("lensed_sn_ia", "sn_ia_lrg", "agn", "sn_cc_host", "variable_star")
    schema = ("10.0", official_schemas().path) if survey == "lsst" else None
    found, index = [], 0
    while len(found) < n:
        system = draw_system(survey, 5, index, kind=kinds[index % len(kinds)])
        found += [alert.value for alert in simulate_packets(system, survey, max_alerts=3, schema=schema)]
        index += 1
    return found[:n]

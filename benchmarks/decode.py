"""Packets to light-curve columns and stamps, and the first stage alone, against brokers' Python and a stand-in for BOOM."""

from dataclasses import replace

from benchmarks import peers
from benchmarks.alerts import mixes, official_schemas
from benchmarks.decoders import DECODERS, using
from benchmarks.report import at_least, at_most, compared
from benchmarks.timing import interleaved
from dgl_broker import surveys, wire
from dgl_broker.stamps import KINDS, clean_image, read_stamp
from dgl_broker.surveys.values import columns, present

TITLE = "1. Decoding: packet bytes to light-curve columns and three stamps"
BROKERS, BROKERS_DECODE = "brokers' Python: fastavro + gzip + astropy", "brokers' Python, decoding alone"
BOOM, CAVRO = "BOOM, by cavro's time", "cavro, decoding alone"
COLUMNS = {
    "lsst": ("midpointMjdTai", "psfFlux", "psfFluxErr", "scienceFlux", "scienceFluxErr", "timeWithdrawnMjdTai"),
    "ztf": ("jd", "fid", "magpsf", "sigmapsf", "diffmaglim", "forcediffimflux", "forcediffimfluxunc"),
}
HISTORIES = {"lsst": ("prvDiaSources", "prvDiaForcedSources"), "ztf": ("prv_candidates", "fp_hists")}
STAMPS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
# What of BOOM's time is wanted at most, and what of the brokers' at least: the figures of issue 7.
OF_BOOM = {("ztf", "20 earlier rows"): 0.6, ("lsst", "new objects"): 1.0, ("lsst", "mature"): 0.2}
OF_BROKERS = {("ztf", "compiled"): 10.0, ("lsst", "compiled", "mature"): 60.0, ("lsst", "compiled"): 25.0}
PURE_PYTHON = {"ztf": 3.0, "lsst": 5.0}
FIRST_STAGE = 15.0


def run(options):
    """Yields a `Measure` for each mix."""
    for mix in mixes(options):
        yield _measured(mix, options.rounds)


def _measured(mix, rounds):
    decode, decode_and_stamps = peers.read_as_brokers(mix)
    ways = {BROKERS: decode_and_stamps, BROKERS_DECODE: decode}
    for decoder in DECODERS:
        own = replace(mix, schemas=official_schemas() if mix.schemas else None)
        ways[f"{decoder}: columns and 3 stamps"] = _with(decoder, _columns_and_stamps, own)
        ways[f"{decoder}: Alerts and 3 Stamps, in a batch"] = _with(decoder, _alerts_and_stamps, own)
        ways[f"{decoder}: first stage"] = _with(decoder, _first_stage, own)
    cavro = peers.cavro_decode(mix)
    if cavro is not None:
        ways[CAVRO] = cavro
    if mix.survey == "ztf":
        alerts = surveys.read_alerts([wire.decode(value) for value in mix.values])
        ways["inflating 3 stamps alone"] = peers.inflate_stamps(
            mix, [[s for s in (getattr(a.cutouts, kind) for kind in KINDS) if s] for a in alerts]
        )
    spent = interleaved(ways, len(mix.values), rounds)
    ratios, goals = _against(mix, spent)
    return compared(mix.title, spent, ratios, goals, notes=mix.notes)


def _against(mix, spent):
    """Ratios to the brokers' way and to BOOM, and what is wanted of them."""
    ratios, goals = {}, {}
    for decoder in DECODERS:
        ours, first = spent[f"{decoder}: columns and 3 stamps"], spent[f"{decoder}: first stage"]
        name = f"{decoder}: times the speed of brokers' Python"
        ratios[name] = (spent[BROKERS], ours)
        if decoder == "compiled":
            goals[name] = at_least(OF_BROKERS.get((mix.survey, decoder, mix.name), OF_BROKERS[mix.survey, decoder]))
        else:
            goals[name] = at_least(PURE_PYTHON[mix.survey])
        name = f"{decoder}: first stage, times the speed of brokers' Python"
        ratios[name] = (spent[BROKERS], first)
        goals[name] = at_least(FIRST_STAGE)
        ratios[f"{decoder}: first stage, times the speed of brokers' decoding alone"] = (spent[BROKERS_DECODE], first)
    over = peers.CAVRO_OVER_BOOM.get((mix.survey, mix.name))
    if CAVRO in spent and over is not None and "compiled" in DECODERS:
        boom = spent[CAVRO] / over + spent.get("inflating 3 stamps alone", 0.0)
        spent[BOOM] = boom
        name = "compiled: time over BOOM's"
        ratios[name] = (spent["compiled: columns and 3 stamps"], boom)
        goals[name] = at_most(OF_BOOM[mix.survey, mix.name])
    return ratios, goals


def _with(decoder, work, mix):
    """`work` on a mix with a decoder."""

    def all_of_it():
        with using(decoder):
            work(mix)

    return all_of_it


def _columns_and_stamps(mix):
    for value in mix.values:
        record = wire.decode(value, mix.survey, mix.schemas).record
        for name in HISTORIES[mix.survey]:
            columns([present(record.get(name))], COLUMNS[mix.survey])
        for name in STAMPS:
            stamp = record[name]["stampData"] if mix.survey == "ztf" else record[name]
            if stamp is not None:
                clean_image(stamp)


def _alerts_and_stamps(mix):
    packets = [wire.decode(value, mix.survey, mix.schemas) for value in mix.values]
    for alert in surveys.read_alerts(packets):
        for kind in KINDS:
            read_stamp(getattr(alert.cutouts, kind), kind, alert.cutouts)


def _first_stage(mix):
    for value in mix.values:
        surveys.read_head(wire.open_message(value, mix.survey, mix.schemas))

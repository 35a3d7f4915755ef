"""Alert packets of a simulated system: `simulate_packets(system, survey)`."""

from dataclasses import dataclass, field

from dgl_broker.sim.campaign import run_campaign
from dgl_broker.sim.lsst_packets import LsstAlerts

LABEL_COLUMNS = (
    "survey", "alert_id", "object_id", "class", "kind", "n_detections", "days_since_first", "n_images", "separation_arcsec",
    "magnification", "z_lens", "z_source", "snr", "seed", "system", "galaxy_id", "mjd_tai", "band", "n_merged",
)  # fmt: skip


@dataclass(eq=False)
class SimulatedAlert:
    """One alert: its labels, and its packet, which is made when `value` is first read.

    `labels` maps `LABEL_COLUMNS` to values: class and kind of the system, `n_detections` of the object with this one,
    `days_since_first` detection of the object, `n_images` of the system, `n_merged` of them in this detection, and numbers of
    the truth where the kind has them (else None).
    """

    labels: dict
    _alerts: object = field(repr=False)
    _place: tuple = field(repr=False)
    _value: bytes | None = field(default=None, repr=False)

    @property
    def value(self):
        """The packet as on the wire."""
        if self._value is None:
            self._value = self._alerts.packet(*self._place)
        return self._value

    @property
    def record(self):
        """ZTF: the alert's Avro without a container, for containers of many."""
        return self._alerts.record(*self._place)

    @property
    def survey(self):
        """ "lsst" or "ztf"."""
        return self.labels["survey"]

    @property
    def alert_id(self):
        """64-bit id."""
        return self.labels["alert_id"]

    @property
    def object_id(self):
        """The object's id as the reader gives it: decimal digits for LSST, a name for ZTF."""
        return self.labels["object_id"]

    @property
    def mjd_tai(self):
        """Mid-exposure time of the trigger."""
        return self.labels["mjd_tai"]


def own_schemas(survey="lsst"):
    """Schema source for the packets of our own writer; None for ZTF, whose packets carry their schema."""
    if survey == "ztf":
        return None
    from dgl_broker.data_files import folder
    from dgl_broker.wire import schema_source

    return schema_source(str(folder("schemas") / "write"))


def _alerts_of(campaign, survey, schema):
    if survey == "lsst":
        from dgl_broker.surveys.lsst.write import lsst_writer

        version, official = schema if isinstance(schema, tuple) else (schema or "10.0", None)
        return LsstAlerts(campaign, lsst_writer(version, official))
    from dgl_broker.sim.ztf_packets import ZtfAlerts

    return ZtfAlerts(campaign)


def simulate_packets(system, survey, visits=None, max_alerts=None, schema=None):
    """Every alert that a survey would issue of a system, in order of time.

    Parameters
    ----------
    system : System
    survey : str
        "lsst" or "ztf".
    visits : Visits, optional
        Instead of those drawn for the system.
    max_alerts : int, optional
        Keep that many at most: the first ones.
    schema : str or (str, path), optional
        LSST: version that the fields follow ("10.0", "11.1"), or the version and a folder of Rubin's own schema files, by which
        the packets are then written.

    Returns
    -------
    list of SimulatedAlert
        Packets are made as they are read: labels alone are cheap. The same seed and index give the same bytes, whichever
        alerts are read and in whatever order.
    """
    campaign = run_campaign(system, survey, visits)
    if not campaign.objects:
        return []
    alerts = _alerts_of(campaign, survey, schema)
    truth = system.truth
    out = []
    for number, k in alerts.triggers()[:max_alerts]:
        dia_object = campaign.objects[number]
        d = dia_object.detections[k]
        alert_id, object_id = alerts.identity(number, k)
        times = campaign.visits.mjd_tai
        labels = {
            "survey": survey,
            "alert_id": alert_id,
            "object_id": object_id,
            "class": system.label,
            "kind": system.kind,
            "n_detections": k + 1,
            "days_since_first": float(times[d.visit] - times[dia_object.detections[0].visit]),
            **{name: truth.get(name) for name in ("n_images", "separation_arcsec", "magnification", "z_lens", "z_source")},
            "snr": float(abs(d.flux) / d.stated_error),
            "seed": system.seed,
            "system": system.index,
            "galaxy_id": system.galaxy_id,
            "mjd_tai": float(times[d.visit]),
            "band": "ugrizy"[campaign.visits.band[d.visit]],
            "n_merged": d.n_merged,
        }
        out.append(SimulatedAlert(labels, alerts, (number, k)))
    return out

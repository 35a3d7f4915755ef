"""Surveys' packets -> `Alert`: the only place that knows a survey's fields, units and habits."""

from dgl_broker.errors import PacketError
from dgl_broker.surveys import lsst, ztf
from dgl_broker.surveys.facts import FACTS
from dgl_broker.surveys.head import AlertHead

__all__ = ["FACTS", "SURVEYS", "AlertHead", "leading_facts", "leading_fields", "read_alert", "read_alerts", "read_head"]

SURVEYS = {"lsst": lsst, "ztf": ztf}


def read_alert(packet):
    """The `Alert` that a packet holds.

    Parameters
    ----------
    packet : dgl_broker.wire.Packet

    Raises
    ------
    PacketError
        `bad_value`, `inexact_id`, `missing_field`: names the alert, what was found and what was needed.
    """
    (found,) = read_alerts([packet])
    if isinstance(found, PacketError):
        raise found
    return found


def read_alerts(packets):
    """The `Alert` of each packet, or the PacketError that reading it gave; each the same to the bit in any company.

    Parameters
    ----------
    packets : list of dgl_broker.wire.Packet
        Their light curves are made in one step: most histories have a dozen rows.
    """
    results = [None] * len(packets)
    for survey, module in SURVEYS.items():
        heads = {}
        for n, packet in enumerate(packets):
            if packet.survey == survey:
                try:
                    heads[n] = module.read_head(packet.record, packet.schema)
                except PacketError as error:
                    results[n] = error
        curves = module.read_curves([packets[n].record for n in heads]) if heads else []
        for (n, head), (curve, n_dropped) in zip(heads.items(), curves, strict=True):
            results[n] = module.alert_of(packets[n].record, head, curve, n_dropped)
    return results


def read_head(opened):
    """What the first stage tells of a message, or None where its writer put a history before the trigger.

    Parameters
    ----------
    opened : dgl_broker.wire.Opened

    Returns
    -------
    AlertHead or None
        Equal to what `read_alert` says, as far as it goes.

    Raises
    ------
    PacketError
        As `read_alert` would.
    """
    survey = SURVEYS[opened.survey]
    leading = opened.leading()
    return survey.read_head(leading, opened.label(leading)) if survey.TRIGGER in leading else None


def leading_facts(survey, leading):
    """Facts that the first stage already knows; each equals what `read_alert` will say.

    Parameters
    ----------
    survey : str
    leading : dict
        From `wire.Opened.leading`.

    Returns
    -------
    dict
        A fact that is None is known to be unknown; one that is absent needs the second stage.
    """
    return SURVEYS[survey].leading_facts(leading)


def leading_fields(survey, facts):
    """Fields of the packet that the first stage must read for these facts, for `wire.Opened.leading`.

    Facts that only the second stage knows need none.
    """
    known = SURVEYS[survey].FIELDS_OF_FACT
    return frozenset(field for fact in facts for field in known.get(fact, ()))

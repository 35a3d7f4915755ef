"""Deterministic ids of what we publish, so that readers de-duplicate by them."""

import hashlib


def message_id(survey, alert_id, bundle_sha256, companion_alert_ids=(), filter_version=None):
    """32 hex digits that are the same whenever the same alert is scored from the same inputs.

    Parameters
    ----------
    survey : str
    alert_id : int
    bundle_sha256 : str
    companion_alert_ids : sequence of int
        In any order.
    filter_version : str, optional
        `name:version` of the filters that passed, on the candidates topic.
    """
    parts = [survey, str(int(alert_id)), bundle_sha256, ",".join(map(str, sorted(map(int, companion_alert_ids))))]
    if filter_version is not None:
        parts.append(filter_version)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]

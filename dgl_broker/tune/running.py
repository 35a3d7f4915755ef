"""Which bundle judges now: what the workers say, or else what the configuration names."""

from dgl_broker.errors import InputUnavailable
from dgl_broker.model.card import CARD, bundle_sha256, find_bundle, read_card


def bundle_on_disk(name, survey=None):
    """(id, hash) of a bundle by name or folder, from its card alone.

    Raises
    ------
    ConfigError, InputUnavailable
        If there is none.
    """
    path = find_bundle(name, survey) / CARD
    try:
        card = read_card(path.read_bytes(), str(path))
    except OSError as error:
        raise InputUnavailable(f"{path}: {error.strerror}") from error
    return str(card.get("id")), bundle_sha256(card)


def running_bundles(file, configured=None):
    """Hashes of the bundles that the living workers of a filter's file score with; else of the configured one, if any.

    Parameters
    ----------
    file : dgl_broker.tune.filter_file.FilterFile
    configured : str, optional
    """
    alive = {w.bundle_sha256 for w in file.workers() if not w.silent and w.bundle_sha256}
    return sorted(alive) or ([configured] if configured else [])

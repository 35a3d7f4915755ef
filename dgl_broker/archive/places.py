"""Where a replay's files lie: the table or tables, and beside them the ledger, dead letters, kept packets and manifest."""

import glob
import json
from pathlib import Path

from dgl_broker.errors import ConfigError

TABLE_SUFFIXES = (".parquet", ".parq", ".pq")


def beside(table, what, shards=False):
    """What a replay left beside a table or a folder of them, such as `kept`: paths, whether or not they are there.

    Parameters
    ----------
    table : path
        Its suffix is left out where it is a table's: beside `scores.parquet` lies `scores.kept`, beside `run.1` `run.1.kept`.
    what : str
    shards : bool
        Those of shards as well, `scores.shard-0-of-4.kept`, as far as they are there.
    """
    table = Path(table)
    name = table.stem if table.suffix in TABLE_SUFFIXES else table.name
    found = [table.with_name(f"{name}.{what}")]
    return found + sorted(table.parent.glob(f"{glob.escape(name)}.shard-*-of-*.{what}")) if shards else found


def agree_with_shards(places, parted):
    """See that the shards that are finished parted the archive in the same way: else alerts would be twice there, or missing.

    Parameters
    ----------
    places : Places
        Of this shard.
    parted : dict
        As the settings in a manifest say it: `shard_by` and, by source, of what sources.

    Raises
    ------
    ConfigError
        Naming the other shard's manifest and what differs.
    """
    if places.out is None or places.shard[1] == 1:
        return
    for path in beside(places.out, "manifest.json", shards=True):
        if path == places.beside("manifest.json") or not path.name.endswith(f"-of-{places.shard[1]}.manifest.json"):
            continue
        try:
            theirs = json.loads(path.read_text())["settings"]
        except (OSError, ValueError, KeyError):
            continue  # none there, or none of ours
        theirs = {"shard_by": "object", **theirs}
        for name in ("shard_by", "of_sources", "of_sources_sha256"):
            if theirs.get(name) != parted.get(name):
                said = f"{name} {theirs.get(name)!r}, here {parted.get(name)!r}"
                raise ConfigError(
                    f"{path}: a shard that parts the archive otherwise: {said}; take another folder, or begin anew"
                )


class Places:
    """Places of one replay, or of one shard of it.

    A table is the file `out`; one a night, or a shard's, lies in the folder `out`: `night=2026-11-22/shard-0-of-4.parquet`.
    All else stands beside it under the same name: `<stem>.ledger`, or `<stem>.shard-0-of-4.ledger`, and so on.

    Parameters
    ----------
    out : path, optional
        None where nothing but Kafka is written to.
    shard : (int, int)
    by_night : bool
    ledger : path, optional
        Instead of that beside `out`; needed without it.

    Raises
    ------
    ConfigError
        If what is there already does not go with it.
    """

    def __init__(self, out=None, shard=(0, 1), by_night=False, ledger=None):
        if out is None and ledger is None:
            raise ConfigError("without --out: expected --ledger FILE, where the replay writes down how far it is")
        if out is not None and not Path(out).name:
            raise ConfigError(f"--out {out}: expected a name, such as scores.parquet")
        self.out, self.shard, self.by_night = out and Path(out), shard, by_night
        self.is_folder = by_night or shard[1] > 1
        self._mark = f"shard-{shard[0]}-of-{shard[1]}." if shard[1] > 1 else ""
        self._base = Path(out) if out is not None else Path(ledger).with_suffix("")
        self.ledger = Path(ledger) if ledger is not None else self.beside("ledger")
        if out is not None:
            self._check()

    def beside(self, what):
        """A file or folder beside the table, such as `<stem>.manifest.json`."""
        return beside(self._base, self._mark + what)[0]

    @property
    def part_name(self):
        """Name of this shard's files within the folder."""
        return f"shard-{self.shard[0]}-of-{self.shard[1]}.parquet"

    def table(self, night):
        """The table of a night."""
        if not self.is_folder:
            return self.out
        return self.out / f"night={night}" / self.part_name if self.by_night else self.out / self.part_name

    def old_tables(self):
        """Tables that an earlier replay of the same shard left in the folder."""
        return sorted(self.out.rglob(self.part_name)) if self.is_folder and self.out.is_dir() else []

    def _check(self):
        if not self.is_folder:
            if self.out.is_dir():
                raise ConfigError(f"--out {self.out}: a folder, expected a file such as scores.parquet (or --by-night)")
            return
        if self.out.is_file():
            raise ConfigError(f"--out {self.out}: a file, expected a folder: --by-night and --shard write several tables")
        others = [p for p in self.out.rglob("*.parquet") if not p.name.endswith(f"-of-{self.shard[1]}.parquet")]
        others += [p for p in self.out.rglob("shard-*.parquet") if p.parent.name.startswith("night=") != self.by_night]
        if others:
            raise ConfigError(f"--out {self.out}: holds {others[0].name}, of another replay; expected a folder of its own")

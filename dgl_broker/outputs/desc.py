"""DESC's `BrokerMessage`: the whole LSST alert with our classification, as the stations of LSSTDESC/FASTDB read it.

Their taxonomy (LSSTDESC/elasticc, taxonomy.ipynb) has no class for a lensed supernova, and none is invented: p_lsn goes to
2221, SN-like/Other, and the rest to 200, Residual, which make 1; an alert without scores is 300, NotClassified, with
probability 1. The schema is theirs and holds v10.0 alerts alone; other versions are counted and left out.
"""

import json
from pathlib import Path

from dgl_broker import __version__
from dgl_broker.errors import InputUnavailable, PacketError
from dgl_broker.wire import encode_container, open_message, parse_schema

RESIDUAL, NOT_CLASSIFIED = 200, 300
SCHEMA = "fastdb.v10_0_0.BrokerMessage"
PACKET = "lsst 10.0"


def classifications(outcome, class_id):
    """[{classId, probability}] of one outcome; they add up to 1."""
    if outcome.scores is None:
        return [{"classId": NOT_CLASSIFIED, "probability": 1.0}]
    p_lsn = float(outcome.scores.p_lsn)
    return [{"classId": class_id, "probability": p_lsn}, {"classId": RESIDUAL, "probability": 1.0 - p_lsn}]


class BrokerMessages:
    """Outcomes as BrokerMessages.

    Parameters
    ----------
    topic : str
    schemas_folder : path
        Searched recursively for fastdb.v10_0_0.BrokerMessage.avsc and the official lsst.v10_0 schemas.
    packet_schemas : SchemaSource
        Writers' schemas of the packets, which are decoded whole once more here.
    broker_name, classifier_name : str
    bundle_sha256 : str
        Part of classifierVersion.
    class_id : int
        Class that p_lsn is given to.
    """

    schema_name = SCHEMA

    def __init__(self, topic, schemas_folder, packet_schemas, broker_name, classifier_name, bundle_sha256, class_id=2221):
        self.topic = topic
        self.packet_schemas = packet_schemas
        self.class_id = class_id
        self.skipped = 0
        self._ours = {
            "brokerName": broker_name,
            "classifierName": classifier_name,
            "classifierVersion": f"{__version__}/{bundle_sha256[:12]}",
        }
        self._schema = broker_message_schema(Path(schemas_folder))

    def encode(self, outcome):
        """One object container, or None where the alert is not of schema 10.0 or cannot be written in it."""
        if outcome.alert is None or outcome.alert.schema != PACKET:
            self.skipped += 1
            return None
        try:
            record = open_message(outcome.message.value, "lsst", self.packet_schemas).whole()
            return encode_container(
                self._schema,
                {**record, **self._ours, "classifications": classifications(outcome, self.class_id)},
            )
        except (PacketError, ValueError, TypeError, KeyError):
            self.skipped += 1
            return None


def broker_message_schema(folder):
    """The parsed schema, its lsst.v10_0 parts taken from the same folder or those below it.

    Raises
    ------
    InputUnavailable
        Naming the first file that is not there.
    """
    files = {file.stem: file for file in sorted(folder.rglob("*.avsc"))}

    def read(name):
        if name not in files:
            raise InputUnavailable(f"DESC's message: no {name}.avsc in {folder} or below it")
        return json.loads(files[name].read_text())

    def inline(schema, known):
        """Named types of lsst.v10_0 written out where they are first used, as Avro wants them."""
        if isinstance(schema, list):
            return [inline(s, known) for s in schema]
        if isinstance(schema, str):
            if not schema.startswith("lsst.v10_0.") or schema in known:
                return schema
            known.add(schema)
            return inline(read(schema), known)
        return {k: inline(v, known) if k in ("type", "items", "fields", "values") else v for k, v in schema.items()}

    return parse_schema(inline(read(SCHEMA), set()))

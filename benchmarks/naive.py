"""A naive pipeline from Kafka to Kafka, one alert at a time with the usual libraries: what the filter is measured against.

fastavro, gzip and astropy for the packet, scipy for each image, the networks as published on a batch of one, and
scikit-learn's SVM. Light curves are only put into an array of the right size, cheaper than they are in earnest.
"""

import argparse
import io
import json
import signal
import warnings

import fastavro
import numpy as np
import torch
from confluent_kafka import Consumer, Producer

from benchmarks import peers
from benchmarks.alerts import LSST_ID, official_schemas
from dgl_broker import model
from dgl_broker.scores import MEMBERS
from dgl_broker.stamps import Stamp
from dgl_broker.wire.confluent import HEAD_BYTES

FLUX = {"lsst": ("prvDiaSources", "midpointMjdTai", "psfFlux"), "ztf": ("prv_candidates", "jd", "magpsf")}
PIXEL_ARCSEC = {"lsst": 0.2, "ztf": 1.012}


class Naive:
    """Scores of one message at a time.

    Parameters
    ----------
    survey : str
    bundle : Bundle
    """

    def __init__(self, survey, bundle):
        self.survey, self.shape = survey, bundle.shape
        self.members = [bundle.networks[name].eval() for name in MEMBERS]
        self.softening = bundle.card["input"]["image"]["softening_njy"]
        self.scale = bundle.card["input"]["image"]["pixel_scale_arcsec"]
        self.schema = None if survey == "ztf" else fastavro.parse_schema(official_schemas().writer_schema(LSST_ID).tree)
        self.svm = _svm_as_large_as(model.load_bundle("default", survey=survey).fusion.svm)

    def score(self, value):
        """The class of a message's bytes, and the probabilities that it is of."""
        record = self._decoded(value)
        images = [self._image(record[name]) for name in peers.STAMPS[self.survey]]
        planes = self._planes(images[1:])
        curve = self._light_curve(record)
        context = np.concatenate([curve.mean(0), curve.std(0), np.zeros(self.shape.context)])[: self.shape.context]
        inputs = [torch.from_numpy(a[None].astype(np.float32)) for a in (curve, planes, context)]
        with torch.inference_mode():
            found = [net(*inputs, {}) for net in self.members]
        probabilities = torch.cat(found, dim=1).exp().double().numpy()
        return int(self.svm.predict(probabilities)[0]), probabilities[0]

    def _decoded(self, value):
        if self.survey == "ztf":
            return next(fastavro.reader(io.BytesIO(value)))
        return fastavro.schemaless_reader(io.BytesIO(value[HEAD_BYTES:]), self.schema)

    def _image(self, cutout):
        data = cutout["stampData"] if self.survey == "ztf" else cutout
        return None if data is None else peers.open_by_astropy(data)

    def _planes(self, images):
        """Template and difference with their masks, (4, S, S)."""
        side = self.shape.side
        found = np.zeros((4, side, side), np.float32)
        step = PIXEL_ARCSEC[self.survey]
        for n, image in enumerate(images):
            if image is None:
                continue
            height, width = image.shape
            valid = np.isfinite(image)
            stamp = Stamp(
                pixels=np.where(valid, image, 0.0).astype(np.float32),
                valid=valid,
                matrix=np.array([[-step, 0.0], [0.0, step]]),
                x0=(width - 1) / 2.0,
                y0=(height - 1) / 2.0,
                in_njy=True,
            )
            found[n], found[2 + n] = peers.place_by_scipy(stamp, side, self.scale, self.softening)
        return found

    def _light_curve(self, record):
        history, time, flux = FLUX[self.survey]
        rows = [row for row in record[history] or () if row[flux] is not None][-self.shape.steps :]
        out = np.zeros((self.shape.steps, self.shape.features))
        if rows:
            out[-len(rows) :, 0] = 1.0
            out[-len(rows) :, 1] = [row[time] for row in rows]
            out[-len(rows) :, 1] -= out[-1, 1]
            out[-len(rows) :, 2] = np.arcsinh([row[flux] for row in rows])
        return out


def _svm_as_large_as(arrays):
    """A machine of scikit-learn's with as many support vectors: nearly all samples of classes that cannot be told apart."""
    from sklearn.svm import SVC

    rng = np.random.default_rng(1)
    n = len(arrays.support_vectors)
    probabilities = rng.dirichlet(np.ones(4), (n, 3)).reshape(n, 12)
    return SVC(kernel=arrays.kernel, gamma=1.0, break_ties=True, max_iter=300).fit(probabilities, rng.integers(0, 4, n))


def main(argv=None):
    """Read, score and write until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("servers", "topic", "group", "out", "survey", "bundle"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # astropy finds fault with ZTF's headers
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    naive = Naive(args.survey, model.load_bundle(args.bundle, survey=args.survey))
    consumer = Consumer({"bootstrap.servers": args.servers, "group.id": args.group, "auto.offset.reset": "earliest"})
    producer = Producer({"bootstrap.servers": args.servers})
    consumer.subscribe([args.topic])
    schema = fastavro.parse_schema(
        {"type": "record", "name": "score", "fields": [{"name": n, "type": t} for n, t in FIELDS.items()]}
    )
    while not stopping:
        message = consumer.poll(0.1)
        if message is None or message.error():
            continue
        found, probabilities = naive.score(message.value())
        out = io.BytesIO()
        place = f"{message.topic()}[{message.partition()}]"
        record = (place, message.offset(), "scored", found, json.dumps(probabilities.tolist()))
        fastavro.writer(out, schema, [dict(zip(FIELDS, record, strict=True))])
        producer.produce(args.out, out.getvalue())
        producer.poll(0)
    producer.flush()
    consumer.close()


FIELDS = {"source": "string", "source_row": "long", "status": "string", "class": "int", "probabilities": "string"}

if __name__ == "__main__":
    main()

"""A campaign as LSST alerts: which rows each packet holds, and the packets, made when they are asked for."""

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.sim import quality
from dgl_broker.sim.identity import sky_place, unique_id
from dgl_broker.sim.solar_system import moving_object_record
from dgl_broker.sim.stamps import LSST_SIDES, PSF_SIDE, cut, footprint_side, visit_frame, visit_patch
from dgl_broker.surveys.lsst import write

HISTORY_DAYS = 365.25  # Rubin's packets reach twelve months back
PRECOVERY_DAYS = 30.0  # forced photometry before the first detection, done a day after it
_DETECTION, _OBJECT, _FORCED = 0, 1 << 19, 1 << 20  # ranges of the items that ids are made of
AP_RATIO = 2.95  # error of the 12-pixel aperture over that of the PSF flux, as in real packets


class LsstAlerts:
    """The alerts of one campaign.

    Parameters
    ----------
    campaign : Campaign
    writer : LsstWriter
    """

    def __init__(self, campaign, writer):
        self.c, self.writer = campaign, writer
        self.system, self.sky, self.v = campaign.system, campaign.sky, campaign.visits
        rng = self.system.rng(31)
        self.as_v10 = rng.uniform() < 0.5  # real v10 packets leave most of diaObject null; newer ones may not
        self.forced_at_all = rng.uniform() < 0.9  # some objects of real packets have no forced photometry
        self.precovery = rng.uniform() < 0.6
        self.has_reason = rng.uniform() < 0.7
        self.axis_error = rng.uniform(0.9, 1.1)
        self.known_mover = self.system.kind == "moving_object" and rng.uniform() < 0.5
        self.by_visit = {}
        for o in campaign.objects:
            for d in o.detections:
                self.by_visit.setdefault(d.visit, []).append(d)
        self._sources, self._forced, self._patches, self._summaries = {}, {}, {}, {}
        self.object_rows = [self._object_rows(o) for o in campaign.objects]

    def _object_rows(self, dia_object):
        """Numbers of an object's detections: ids, times, fluxes, scores; arrays over its detections."""
        d = dia_object.detections
        visit = np.array([x.visit for x in d])
        east, north = np.array([x.east for x in d]), np.array([x.north for x in d])
        photometry = self.c.measurer.at(visit, east, north)
        flux, error = np.array([x.flux for x in d]), np.array([x.error for x in d])
        ids = np.array([unique_id(self.system.seed, self.system.index, _DETECTION + x.visit * 8 + self._rank(x)) for x in d])
        return {
            "id": int(ids[0]),  # Rubin gives an object the number of its first detection
            "ids": ids,
            "visit": visit,
            "mjd": self.v.mjd_tai[visit],
            "flux": flux,
            "error": error,
            "science": flux + photometry.template,
            "science_error": photometry.science_error,
            "template": photometry.template,
            "template_error": photometry.template_error,
            "static": photometry.static,
            "first_visit": d[0].visit,
            "normal": self.system.rng(10_000 + dia_object.number).standard_normal((len(d), 12)),
            "uniform": self.system.rng(20_000 + dia_object.number).uniform(size=(len(d), 8)),
            "bands": [BANDS[b] for b in self.v.band[visit]],
        }

    def _rank(self, detection):
        return next(k for k, d in enumerate(self.by_visit[detection.visit]) if d is detection)

    def identity(self, number, k):
        """Alert id and object id (decimal digits; None for a known moving object) of an alert."""
        rows = self.object_rows[number]
        return int(rows["ids"][k]), None if self.known_mover else str(rows["id"])

    def triggers(self):
        """(object number, detection number) of every alert, in order of time."""
        order = [(self.v.mjd_tai[d.visit], o.number, k) for o in self.c.objects for k, d in enumerate(o.detections)]
        return [(o, k) for _, o, k in sorted(order)]

    def _source(self, number, k):
        """The diaSource of detection k of an object, encoded; kept, since later packets hold it too."""
        if (number, k) not in self._sources:
            self._sources[number, k] = self.writer.part("diaSource", self._source_record(number, k))
        return self._sources[number, k]

    def side(self, detection):
        """Side of a detection's stamp [pixel] and of its footprint's box."""
        box = footprint_side(detection.flux, detection.error, self.c.measurer.effective_fwhm[detection.visit] / 0.2)
        box += 2 * (detection.n_merged > 1) + (6 if detection.kind in ("cosmic_ray", "bad_column") else 0)
        return int(np.clip(box, *LSST_SIDES)), box

    def _source_record(self, number, k):
        rows, d = self.object_rows[number], self.c.objects[number].detections[k]
        v, i = self.v, d.visit
        normal, uniform = rows["normal"][k], rows["uniform"][k]
        snr = abs(d.flux) / d.error
        fake = d.kind != "source"
        ra, dec = sky_place(self.system.ra, self.system.dec, d.east, d.north)
        frame_x, frame_y = self._place_on_detector(d)
        fwhm_px = self.c.measurer.effective_fwhm[i] / v.pixel_scale
        centroid = 0.45 * fwhm_px / snr * np.exp(0.3 * normal[:2])  # as stated by real packets
        brightness = rows["static"][k] / d.error
        score = quality.reliability(snr, d.n_merged > 1, fake, brightness, normal[2], uniform[0])
        extended, moments = quality.extendedness(snr, d.n_merged > 1, fake, normal[3:6], uniform[1])
        psf_moment = (fwhm_px * v.pixel_scale / 2.355) ** 2
        shape = (None, None, None) if moments is None else (
            psf_moment * moments[0], psf_moment * moments[1], 0.1 * psf_moment * normal[6]
        )  # fmt: skip
        dipole = d.kind == "dipole" and bool(uniform[2] < 0.6)
        aperture_error = AP_RATIO * d.error
        record = write.dia_source(
            diaSourceId=int(rows["ids"][k]),
            visit=int(v.visit[i]),
            detector=int(v.detector[i]),
            diaObjectId=None if self.known_mover else rows["id"],
            ssObjectId=self.mover_id if self.known_mover else 0,
            midpointMjdTai=float(v.mjd_tai[i]),
            ra=float(ra),
            dec=float(dec),
            raErr=centroid[0] * v.pixel_scale / 3600.0,
            decErr=centroid[1] * v.pixel_scale / 3600.0,
            ra_dec_Cov=0.05 * normal[7] * centroid[0] * centroid[1] * (v.pixel_scale / 3600.0) ** 2,
            x=frame_x,
            y=frame_y,
            xErr=centroid[0],
            yErr=centroid[1],
            apFlux=d.flux * (1.3 if fake else 1.0) + aperture_error * normal[8] * 0.94,
            apFluxErr=aperture_error,
            isNegative=d.flux < 0,
            snr=snr * float(np.exp(0.03 * normal[9])),
            psfFlux=d.flux,
            psfFluxErr=d.error,
            psfChi2=float(1690 + 58 * normal[10] + (0.5 * snr**2 if fake else 0.01 * snr**2)),
            scienceFlux=rows["science"][k],
            scienceFluxErr=rows["science_error"][k],
            templateFlux=rows["template"][k],
            templateFluxErr=rows["template_error"][k],
            ixx=shape[0],
            iyy=shape[1],
            ixy=shape[2],
            ixxPSF=psf_moment * (1 + v.e1[i]),
            iyyPSF=psf_moment * (1 - v.e1[i]),
            ixyPSF=psf_moment * v.e2[i],
            shape_flag=moments is None,
            extendedness=extended,
            reliability=score,
            band=BANDS[v.band[i]],
            isDipole=dipole,
            dipoleFitAttempted=dipole,
            dipoleNdata=1681 if dipole else 0,
            timeProcessedMjdTai=float(v.mjd_tai[i] + 0.0016 + 0.0009 * uniform[3]),
            bboxSize=self.side(d)[1],
        )
        if d.kind == "cosmic_ray" and uniform[4] < 0.4:
            record |= {"pixelFlags": True, "pixelFlags_cr": True, "pixelFlags_crCenter": bool(uniform[5] < 0.5)}
            record |= {"pixelFlags_interpolated": True}
        if d.kind == "bad_column" and uniform[6] < 0.5:
            record |= {"pixelFlags": True, "pixelFlags_bad": True, "pixelFlags_interpolated": True}
        return record

    @property
    def mover_id(self):
        """Number of the known moving object."""
        return unique_id(self.system.seed, self.system.index, _OBJECT)

    def _place_on_detector(self, d):
        frame = visit_frame(self.sky, d.visit)
        x, y = self.sky.to_pixel(d.visit, d.east, d.north)
        return frame.x + float(x), frame.y + float(y)

    def _forced_rows(self, number):
        """Forced photometry of an object: (time made known, mjd, encoded row) of each, in order of time.

        At every visit from the object's first detection on, at the place known by then; from 30 days before, at the first
        place, known a day after the first detection.
        """
        if number not in self._forced:
            rows, dia_object = self.object_rows[number], self.c.objects[number]
            v = self.v
            mjd0 = v.mjd_tai[rows["first_visit"]]
            start = mjd0 - (PRECOVERY_DAYS if self.precovery else 0.0)
            visit = np.flatnonzero(v.mjd_tai >= start)
            seen = np.searchsorted(rows["visit"], visit, side="right")
            places = np.array(dia_object.places)[np.maximum(seen - 1, 0)]
            photometry = self.c.measurer.at(visit, places[:, 0], places[:, 1])
            flux, error, science = photometry.flux, photometry.error, photometry.science
            detected = {int(i): k for k, i in enumerate(rows["visit"])}
            ra, dec = sky_place(self.system.ra, self.system.dec, places[:, 0], places[:, 1])
            out = []
            for m, i in enumerate(visit.tolist()):
                f, s = float(flux[m]), float(science[m])
                if i in detected and dia_object.detections[detected[i]].patch is not None:
                    # Detected on images that photometry of point sources knows nothing of: the artefact's own flux.
                    f, s = dia_object.detections[detected[i]].flux, float(rows["science"][detected[i]])
                late = v.mjd_tai[i] < mjd0
                made = (mjd0 + 1.0 if late else v.mjd_tai[i]) + 0.002
                record = {
                    "diaForcedSourceId": unique_id(self.system.seed, self.system.index, _FORCED + i * 16 + min(number, 15)),
                    "diaObjectId": rows["id"],
                    "ra": float(ra[m]),
                    "dec": float(dec[m]),
                    "visit": int(v.visit[i]),
                    "detector": int(v.detector[i]),
                    "psfFlux": f,
                    "psfFluxErr": float(error[m]),
                    "midpointMjdTai": float(v.mjd_tai[i]),
                    "scienceFlux": s,
                    "scienceFluxErr": float(photometry.science_error[m]),
                    "band": BANDS[v.band[i]],
                    "timeProcessedMjdTai": float(made),
                    "timeWithdrawnMjdTai": None,
                }
                out.append((made, float(v.mjd_tai[i]), self.writer.part("diaForcedSource", record)))
            self._forced[number] = out
        return self._forced[number]

    def _object(self, number, k):
        """The diaObject after detection k, encoded."""
        rows = self.object_rows[number]
        if number not in self._summaries:
            summary = write.ObjectSummary(self.as_v10)
            columns = ("mjd", "bands", "flux", "error", "science", "science_error")
            self._summaries[number] = [summary.add(*values) for values in zip(*(np.asarray(rows[c]).tolist() for c in columns))]
        ra, dec = sky_place(self.system.ra, self.system.dec, *self.c.objects[number].places[k])
        some = slice(0, k + 1)
        error = 0.3 * self.axis_error / 3600.0 / np.sqrt(np.sum((rows["flux"][some] / rows["error"][some]) ** 2))
        record = self._summaries[number][k] | {
            "diaObjectId": rows["id"],
            "validityStartMjdTai": float(rows["mjd"][k] + 0.0021),
            "ra": float(ra),
            "dec": float(dec),
            "raErr": error,
            "decErr": error,
            "ra_dec_Cov": 0.0,
        }
        return self.writer.part("diaObject", record)

    def cutouts(self, number, k):
        """The three stamps of an alert: difference, science, template, as FITS."""
        d = self.c.objects[number].detections[k]
        i = d.visit
        mine = self.by_visit[i]
        sides = [self.side(x)[0] for x in mine]
        if i not in self._patches:
            self._patches = {i: visit_patch(self.sky, i, mine, sides)}  # one visit's images are enough to keep
        patch, corners, frame = self._patches[i]
        rank = self._rank(d)
        side, corner = sides[rank], corners[rank]
        stamp = cut(patch, frame, corner, side)
        x, y = self._place_on_detector(d)
        v, b = self.v, self.v.band[i]
        ra, dec = sky_place(self.system.ra, self.system.dec, d.east, d.north)
        header = write.stamp_header(
            side,
            side,
            (corner[0] - 1, corner[1] - 1),
            (x - corner[0] + 1, y - corner[1] + 1),
            self.sky.pixel_axes(i) / 3600.0,
            (float(ra), float(dec)),
            float(np.rad2deg(v.rotation[i]) % 360.0),
        )
        half = np.arange(PSF_SIDE) - PSF_SIDE // 2.0
        psf = self.sky.psf(i, half, half)
        psf /= psf.sum()
        return (
            write.cutout(header, stamp.difference, stamp.difference_variance, psf),
            write.cutout(header, stamp.science, stamp.science_variance, psf),
            write.cutout(header, stamp.template, stamp.template_variance, self.sky.template_psf(b)),
        )

    def packet(self, number, k):
        """The packet of detection k of an object, as on the wire."""
        rows, d = self.object_rows[number], self.c.objects[number].detections[k]
        now = self.v.mjd_tai[d.visit]
        cutouts = self.cutouts(number, k)
        reason = ("wfd", "lowdust") if self.has_reason else (None, None)
        source = self._source(number, k)
        source_id = int(rows["ids"][k])
        if self.known_mover:
            return self.writer.packet(source_id, source, None, None, None, self._ss_source(source_id, d), cutouts, *reason)
        since = now - HISTORY_DAYS
        earlier = [self._source(number, j) for j in range(k) if rows["mjd"][j] >= since]
        forced = []
        if self.forced_at_all:
            forced = [row for made, mjd, row in self._forced_rows(number) if since <= mjd <= now and made <= now + 0.01]
        return self.writer.packet(source_id, source, earlier or None, forced, self._object(number, k), None, cutouts, *reason)

    def _ss_source(self, source_id, d):
        rng = self.system.rng(41)
        ra, dec = sky_place(self.system.ra, self.system.dec, d.east + 0.3 * rng.standard_normal(), d.north)
        record = moving_object_record(source_id, self.mover_id, float(ra), float(dec), d.flux, rng)
        return self.writer.part("ssSource", record)

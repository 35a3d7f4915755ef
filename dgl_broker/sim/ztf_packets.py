"""A campaign as ZTF alerts: candidates, 30-day histories with upper limits, forced photometry, stamps in counts."""

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.photometry import LN10_OVER_2P5, mag_from_flux
from dgl_broker.sim import quality
from dgl_broker.sim.identity import sky_place, unique_id, ztf_object_name
from dgl_broker.sim.observe import DETECTOR
from dgl_broker.sim.solar_system import designation
from dgl_broker.sim.stamps import cut, visit_frame, visit_patch
from dgl_broker.sim.visits import EXPOSURE_S
from dgl_broker.sim.ztf_images import ZtfImages, missing_pixels
from dgl_broker.sim.ztf_neighbours import ZtfNeighbours
from dgl_broker.surveys.ztf import write

HISTORY_DAYS = 30.0
FORCED_UNTIL_DAYS = 0.95  # forced photometry of the trigger's night is not done when the alert goes out
FORCED_ROWS = 21  # the most that real packets hold
MAGNITUDE_FLOOR = 0.017  # sigmapsf of the brightest real detections
NAN_SHARE, NO_CUTOUT_SHARE = 0.11, 0.002  # of real alerts: some NaN pixels; no stamps at all
REFERENCE_JD = (2458193.9, 2458366.7)  # first and last exposure of a usual reference image
SURVEY_START_JD = 2458194.5  # 2018-03-17
EMPTY_PREVIOUS = (
    "candid", "isdiffpos", "tblid", "xpos", "ypos", "ra", "dec", "magpsf", "sigmapsf", "chipsf", "magap", "sigmagap", "distnr",
    "magnr", "sigmagnr", "chinr", "sharpnr", "sky", "magdiff", "fwhm", "classtar", "mindtoedge", "magfromlim", "seeratio",
    "aimage", "bimage", "aimagerat", "bimagerat", "elong", "nneg", "nbad", "rb", "ssdistnr", "ssmagnr", "ssnamenr", "sumrat",
    "magapbig", "sigmagapbig", "ranr", "decnr", "scorr",
)  # fmt: skip


class ZtfAlerts:
    """The alerts of one campaign."""

    def __init__(self, campaign):
        self.c, self.writer = campaign, write.ztf_writer()
        self.system, self.sky, self.v = campaign.system, campaign.sky, campaign.visits
        rng = self.system.rng(31)
        self.forced_fails = rng.uniform() < 0.15  # every row a failure, as for half the objects with failed rows
        self.known_mover = self.system.kind == "moving_object" and rng.uniform() < 0.5
        self.mover_name = designation(rng).replace(" ", "") if self.known_mover else None
        self.covers_a_day = rng.uniform(0.15, 0.9)  # visits of the field; 100 to 2700 since the survey began in real alerts
        self.neighbours = ZtfNeighbours(self.system, rng)
        self.images = ZtfImages(self.v, rng)
        self.by_visit = {}
        for o in campaign.objects:
            for d in o.detections:
                self.by_visit.setdefault(d.visit, []).append(d)
        self._previous, self._limits, self._forced, self._forced_rows, self._patches, self._records = ({} for _ in range(6))
        self.draws = {
            o.number: (
                self.system.rng(10_000 + o.number).standard_normal((len(o.detections), 24)),
                self.system.rng(20_000 + o.number).uniform(size=(len(o.detections), 10)),
            )
            for o in campaign.objects
        }

    def identity(self, number, k):
        """Alert id and object id of an alert."""
        d = self.c.objects[number].detections
        year = 2017 + int((self.images.jd[d[0].visit] - 2457754.5) / 365.25)
        item = d[k].visit * 8 + next(n for n, other in enumerate(self.by_visit[d[k].visit]) if other is d[k])
        return unique_id(self.system.seed, self.system.index, item), ztf_object_name(
            self.system.seed, self.system.index, number, year
        )

    def triggers(self):
        """(object number, detection number) of every alert, in order of time."""
        order = [(self.v.mjd_tai[d.visit], o.number, k) for o in self.c.objects for k, d in enumerate(o.detections)]
        return [(o, k) for _, o, k in sorted(order)]

    def _shared_fields(self, number, k):
        """The fields of detection k that candidate and history have alike."""
        if (number, k) in self._records:
            return self._records[number, k]
        d = self.c.objects[number].detections[k]
        i, v = d.visit, self.v
        normal, uniform = (x[k] for x in self.draws[number])
        snr = abs(d.flux) / d.stated_error
        ra, dec = sky_place(self.system.ra, self.system.dec, d.east, d.north)
        frame = visit_frame(self.sky, i)
        x, y = (float(a) for a in self.sky.to_pixel(i, d.east, d.north))
        x, y = frame.x + x, frame.y + y
        band = BANDS[v.band[i]]
        _, e_ref, n_ref, mag_ref, star_ref = self.neighbours.reference(d.east, d.north, band)
        chi, sharpness = self.neighbours.shape(star_ref)
        e_ref, n_ref = e_ref + 0.12 * normal[0], n_ref + 0.12 * normal[1]
        ra_ref, dec_ref = sky_place(self.system.ra, self.system.dec, e_ref, n_ref)
        magnitude = float(mag_from_flux(abs(d.flux)))
        sigma = float(np.hypot(1.0 / (LN10_OVER_2P5 * snr), MAGNITUDE_FLOOR))
        aperture = magnitude + 0.4 * sigma * normal[2] + (0.15 * abs(normal[3]) if d.kind != "source" else 0.0)
        fake = d.kind != "source"
        rb, drb, star = quality.ztf_scores(snr, fake, normal[4:7])
        fwhm = max(1.1, self.images.fwhm_px[i] * np.exp((0.08 + 0.9 / snr) * normal[7]) * (0.75 if fake else 1.0))
        major = (0.33 * self.images.fwhm_px[i]) * np.exp(0.15 * normal[8])
        elongation = 1.0 + (0.35 if fake else 0.12) * abs(normal[9])
        true_snr = abs(d.flux) / d.error
        positive = d.flux > 0
        spelling = write.SPELLINGS[positive][0]
        mover = self.known_mover
        fields = self.images.fields(i) | {
            "candid": self.identity(number, k)[0],
            "isdiffpos": spelling,
            "tblid": int(20 * uniform[0]),
            "xpos": x,
            "ypos": y,
            "ra": round(float(ra), 7),
            "dec": round(float(dec), 7),
            "magpsf": magnitude,
            "sigmapsf": sigma,
            "chipsf": float(np.exp(0.3 * normal[10]) * (1.5 + snr**2 / 60.0) * (3.0 if fake else 1.0)),
            "magap": aperture,
            "sigmagap": 0.6 * sigma,
            "distnr": float(np.hypot(e_ref - d.east, n_ref - d.north)),
            "magnr": mag_ref + 0.02 * normal[11],
            "sigmagnr": float(np.clip(0.01 * 10 ** (0.25 * (mag_ref - 17.0)), 0.01, 0.4)),
            "chinr": chi,
            "sharpnr": sharpness,
            "sky": 0.8 * normal[12],
            "magdiff": aperture - magnitude,
            "fwhm": float(fwhm),
            "classtar": star,
            "mindtoedge": float(min(x, y, DETECTOR["ztf"][0] - x, DETECTOR["ztf"][1] - y)),
            "magfromlim": float(v.depth_mag[i]) - aperture,
            "seeratio": float(np.clip(self.images.fwhm_px[i] / fwhm, 0.3, 2.0)),
            "aimage": float(major),
            "bimage": float(major / elongation),
            "aimagerat": float(major / fwhm),
            "bimagerat": float(major / elongation / fwhm),
            "elong": float(elongation),
            "nneg": int(np.clip(25 * (0.5 - true_snr / 30.0) + 1.5 * normal[13], 0, 12)),
            "nbad": 0,
            "rb": rb,
            "ssdistnr": 3.0 * uniform[1] if mover else write.NO_VALUE,
            "ssmagnr": magnitude + 0.2 * normal[14] if mover else write.NO_VALUE,
            "ssnamenr": self.mover_name if mover else "null",
            "sumrat": float(np.clip(1.0 - abs(normal[15]) / true_snr, 0.5, 1.0)),
            "magapbig": aperture + 0.5 * sigma * normal[16],
            "sigmagapbig": 0.85 * sigma,
            "ranr": round(float(ra_ref), 7),
            "decnr": round(float(dec_ref), 7),
            "scorr": float(true_snr * np.exp(0.1 * normal[17])),
        }
        self._records[number, k] = fields, drb
        return fields, drb

    def _candidate(self, number, k):
        """The candidate record of detection k, encoded."""
        fields, drb = self._shared_fields(number, k)
        dia_object = self.c.objects[number]
        d, i = dia_object.detections[k], dia_object.detections[k].visit
        normal, uniform = (x[k] for x in self.draws[number])
        local = abs(d.flux) / self.images.to_njy[i] / (1.3 * self.images.fwhm_px[i] ** 2) / self.images.pixel_dn[i]
        return self.writer.part(
            "candidate",
            fields
            | self.neighbours.fields(d.east, d.north)
            | {
                "ndethist": k + 1,
                "ncovhist": k + 1 + int(self.covers_a_day * (self.images.jd[i] - SURVEY_START_JD)),
                "jdstarthist": float(self.images.jd[dia_object.detections[0].visit]),
                "jdendhist": float(self.images.jd[i]),
                "tooflag": 0,
                "rfid": self.images.reference_id(i),
                "jdstartref": REFERENCE_JD[0],
                "jdendref": REFERENCE_JD[1],
                "nframesref": int(self.sky.template_visits[self.v.band[i]]),
                "dsnrms": float(local),
                "ssnrms": float(abs(d.flux) / d.error),
                "dsdiff": float(local - abs(d.flux) / d.error),
                "nmatches": int(300 + 1200 * uniform[3]),
                "zpclrcov": -2e-5,
                "zpmed": float(self.images.zero_point[i] + 0.02 * normal[18]),
                "clrmed": 0.7,
                "clrrms": 0.25,
                "exptime": EXPOSURE_S["ztf"],
                "drb": drb,
                "drbversion": "d6_m7",
            },
        )

    def _previous_detection(self, number, k):
        if (number, k) not in self._previous:
            fields = dict(self._shared_fields(number, k)[0])
            uniform = self.draws[number][1][k]
            fields["isdiffpos"] = write.SPELLINGS[fields["isdiffpos"] == "t"][int(uniform[4] < 0.04)]
            if not self.known_mover and uniform[5] < 0.97:  # null in most rows of real histories
                fields |= {"ssdistnr": None, "ssmagnr": None, "ssnamenr": None}
            self._previous[number, k] = self.writer.part("prv_candidate", fields)
        return self._previous[number, k]

    def _upper_limit(self, i):
        if i not in self._limits:
            self._limits[i] = self.writer.part("prv_candidate", self.images.fields(i) | dict.fromkeys(EMPTY_PREVIOUS))
        return self._limits[i]

    def _history(self, number, k):
        """Rows of the 30 days before detection k: detections of the object, upper limits elsewhere."""
        detections = self.c.objects[number].detections
        seen = {d.visit: j for j, d in enumerate(detections[:k])}
        now = detections[k].visit
        since = self.v.mjd_tai[now] - self.v.mjd_tai
        visits = np.flatnonzero((since > 0) & (since <= HISTORY_DAYS))
        return [self._previous_detection(number, seen[i]) if i in seen else self._upper_limit(i) for i in visits.tolist()]

    def _forced_photometry(self, number):
        """Flux and error [DN] at the object's first place, what failed, what warns: arrays over visits, NaN where none asks."""
        if number not in self._forced:
            dia_object = self.c.objects[number]
            n = len(self.v)
            asked = np.zeros(n, bool)
            for d in dia_object.detections:
                asked[self._forced_visits(d.visit)] = True
            asked = np.flatnonzero(asked)
            east, north = dia_object.places[0]
            photometry = self.c.measurer.at(asked, np.full(len(asked), east), np.full(len(asked), north))
            flux, error = np.full((2, n), np.nan)
            flux[asked], error[asked] = photometry.flux, 1.1 * photometry.error
            for d in dia_object.detections:
                if d.patch is not None:  # found on images: photometry of point sources knows nothing of it
                    flux[d.visit] = d.flux
            rng = self.system.rng(40_000 + number)
            failed = (rng.uniform(size=n) < 0.3) | self.forced_fails
            warned = rng.uniform(size=n) < 0.02
            self._forced[number] = flux / self.images.to_njy, error / self.images.to_njy, failed, warned
        return self._forced[number]

    def _forced_visits(self, now):
        """Visits whose forced photometry an alert of visit `now` holds, newest first."""
        since = self.v.mjd_tai[now] - self.v.mjd_tai
        return np.flatnonzero((since >= FORCED_UNTIL_DAYS) & (since <= HISTORY_DAYS))[::-1][:FORCED_ROWS]

    def _forced_record(self, i, east, north, flux, error, failed, warned):
        image = self.images.fields(i)
        distance, e_ref, n_ref, magnitude, star = self.neighbours.reference(east, north, BANDS[self.v.band[i]])
        ra, dec = sky_place(self.system.ra, self.system.dec, e_ref, n_ref)
        chi, sharpness = self.neighbours.shape(star)
        none = write.NO_FORCED
        lost = distance > 10.0
        keys = ("fid", "pid", "field", "rcid", "magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc", "diffmaglim")
        return {key: image[key] for key in (*keys, "programid", "jd")} | {
            "rfid": self.images.reference_id(i),
            "sciinpseeing": float(self.images.fwhm_px[i]),
            "scibckgnd": float(self.images.background[i]),
            "scisigpix": float(self.images.pixel_dn[i]),
            "exptime": EXPOSURE_S["ztf"],
            "adpctdif1": 0.083,
            "adpctdif2": 0.084,
            "forcediffimflux": none if failed else float(flux),
            "forcediffimfluxunc": none if failed else float(error),
            "procstatus": "61" if failed else "56" if warned else "0",
            "distnr": none if lost else distance,
            "ranr": none if lost else round(float(ra), 7),
            "decnr": none if lost else round(float(dec), 7),
            "magnr": none if lost else magnitude,
            "sigmagnr": none if lost else 0.02,
            "chinr": none if lost else chi,
            "sharpnr": none if lost else sharpness,
        }

    def _forced_row(self, number, i):
        if (number, i) not in self._forced_rows:
            columns = self._forced_photometry(number)
            record = self._forced_record(i, *self.c.objects[number].places[0], *(column[i] for column in columns))
            self._forced_rows[number, i] = self.writer.part("fp_hist", record)
        return self._forced_rows[number, i]

    def _forced_history(self, number, k):
        visits = self._forced_visits(self.c.objects[number].detections[k].visit)
        return [self._forced_row(number, i) for i in visits.tolist()]

    def cutouts(self, number, k):
        """The three stamps: (name, gzipped FITS) of science, template, difference, or None for each."""
        d = self.c.objects[number].detections[k]
        uniform = self.draws[number][1][k]
        if uniform[6] < NO_CUTOUT_SHARE:
            return None, None, None
        i = d.visit
        mine = self.by_visit[i]
        if i not in self._patches:
            self._patches = {i: visit_patch(self.sky, i, mine, [write.STAMP_SIDE] * len(mine))}
        patch, corners, frame = self._patches[i]
        corner = corners[next(n for n, other in enumerate(mine) if other is d)]
        stamp = cut(patch, frame, corner, write.STAMP_SIDE)
        scale = 1.0 / self.images.to_njy[i]
        sign = 1.0 if d.flux > 0 else -1.0
        planes = [
            stamp.science * scale + self.images.background[i],
            stamp.template * scale + self.images.background[i] * (1 + 0.004 * self.draws[number][0][k][19]),
            stamp.difference * (scale * sign),
        ]
        bad = missing_pixels(uniform[8:10]) if uniform[7] < NAN_SHARE else None
        columns, rows = (
            slice(max(0, -corner[a]), min(write.STAMP_SIDE, DETECTOR["ztf"][a] - corner[a])) for a in (0, 1)
        )  # the detector's edge cuts a stamp
        out = []
        candid = self.identity(number, k)[0]
        for name, plane in zip(write.file_names(candid, self.images.pid[i]), planes):
            if bad is not None:
                plane[bad] = np.nan
            out.append((name, write.cutout(plane[rows, columns])))
        return tuple(out)

    def packet(self, number, k):
        """The packet of detection k of an object: a container of one record."""
        return self.writer.container([self.record(number, k)])

    def record(self, number, k):
        """The same without its container."""
        alert_id, object_id = self.identity(number, k)
        return self.writer.record(
            object_id,
            alert_id,
            self._candidate(number, k),
            self._history(number, k),
            self._forced_history(number, k),
            self.cutouts(number, k),
        )

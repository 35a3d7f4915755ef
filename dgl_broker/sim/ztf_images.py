"""ZTF's images of the visits: when, with which zero point, sky and noise; and the pixels that a stamp may lack."""

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.photometry import jd_utc_from_mjd_tai, njy_of_count
from dgl_broker.sim.visits import EXPOSURE_S
from dgl_broker.surveys.ztf import write

FID = {"g": 1, "r": 2, "i": 3}
# Per band, from the forced-photometry rows and stamps of real packets: zero point [mag], background [DN].
ZERO_POINT = {"g": 26.2, "r": 26.22, "i": 25.6}
BACKGROUND_DN = {"g": 120.0, "r": 230.0, "i": 330.0}


class ZtfImages:
    """What ZTF says of each visit's image; arrays over visits.

    `jd` at the start of the exposure, `night` since 2017-01-01, `pid`, `zero_point` [mag], `background` and `pixel_dn` (sky and
    noise of a pixel) [DN], `to_njy` of one DN, `fwhm_px`.
    """

    def __init__(self, visits, rng):
        v, n = visits, len(visits)
        self.visits = visits
        self.field, self.channel = int(rng.integers(250, 880)), int(v.detector[0])
        bands = [BANDS[b] for b in v.band]
        self.jd = np.asarray(jd_utc_from_mjd_tai(v.mjd_tai, EXPOSURE_S["ztf"]))
        night = np.floor(self.jd - 2457754.5)
        self.night = night.astype(int)
        self.pid = [write.image_id(a, f, self.channel) for a, f in zip(night, self.jd - 2457754.5 - night)]
        deep = np.zeros(n)
        for b in np.unique(v.band):
            deep[v.band == b] = v.depth_mag[v.band == b] - np.median(v.depth_mag[v.band == b])
        clouds = 0.4 * np.clip(-deep - 0.3, 0.0, 2.5)
        self.zero_point = np.array([ZERO_POINT[b] for b in bands]) + 0.1 * rng.standard_normal(n) - clouds
        self.background = np.array([BACKGROUND_DN[b] for b in bands]) * np.exp(0.35 * rng.standard_normal(n) - 0.3 * deep)
        self.to_njy = njy_of_count(self.zero_point)
        self.scatter = np.exp(np.log(0.03) + 0.3 * rng.standard_normal(n))
        self.colour = np.where(v.band == 1, -0.06, 0.09) + 0.01 * rng.standard_normal(n)
        self.pixel_dn = v.pixel_sigma_njy() / self.to_njy
        self.fwhm_px = v.fwhm_arcsec / v.pixel_scale

    def fields(self, i):
        """What upper limits and detections of visit i have in common."""
        jd_date = np.datetime64("1858-11-17") + np.timedelta64(int(np.floor(self.jd[i] - 2400000.5)), "D")
        stamp = str(jd_date).replace("-", "") + f"{int((self.jd[i] - 0.5) % 1.0 * 1e6):06d}"
        band = BANDS[self.visits.band[i]]
        file = (
            f"ztf_{stamp}_{self.field:06d}_z{band}_c{self.channel // 4 + 1:02d}_o_q{self.channel % 4 + 1}_scimrefdiffimg.fits"
        )
        return {
            "jd": float(self.jd[i]),
            "fid": FID[band],
            "pid": self.pid[i],
            "diffmaglim": float(self.visits.depth_mag[i]),
            "pdiffimfilename": file,
            **write.PROGRAM,
            "nid": int(self.night[i]),
            "rcid": self.channel,
            "field": self.field,
            "magzpsci": float(self.zero_point[i]),
            "magzpsciunc": 1.2e-5,
            "magzpscirms": float(self.scatter[i]),
            "clrcoeff": float(self.colour[i]),
            "clrcounc": 1.5e-5,
            "rbversion": "t17_f5_c3",
        }

    def reference_id(self, i):
        """`rfid` of visit i: field, channel, filter."""
        return (self.field * 1000 + 100 + self.channel) * 1000 + 100 * FID[BANDS[self.visits.band[i]]] + 15


def missing_pixels(uniform):
    """Where a stamp has no data, (63, 63) bool: 1 to 14 columns or rows beside the middle. `uniform`: two random numbers."""
    bad = np.zeros((write.STAMP_SIDE, write.STAMP_SIDE), bool)
    which, place = divmod(4 * uniform[0], 1)  # left, right, below, above; how far out
    width = 1 + int(14 * uniform[1])
    start = int(place * (25 - width)) + 39 * (int(which) % 2)  # pixels 24 to 38 are the middle
    bad[:, start : start + width] = True
    return bad if which < 2 else bad.T

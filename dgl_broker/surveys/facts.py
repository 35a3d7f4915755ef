"""The standard facts of an alert: what pre-cuts may speak of and what the context of an example is made from.

Every survey's reader fills what its packets state. A fact that is absent or None is unknown.
"""

PLAUSIBLE_MJD = (49718.0, 71800.0)  # TAI, 1995 to 2055; made-up LSST packets of schema 7 hold seconds since 1970

_PS1 = "of the {n} nearest source in Pan-STARRS1 within 30 arcsec"
_NTH = {1: "1st", 2: "2nd", 3: "3rd"}

FACTS = {
    "survey": ("text", "survey that issued the alert: ztf or lsst"),
    "band": ("text", "band of the trigger, one of u g r i z y"),
    "ra": ("deg", "right ascension of the trigger, ICRS"),
    "dec": ("deg", "declination of the trigger, ICRS"),
    "mjd_tai": ("MJD TAI", "middle of the trigger's exposure"),
    "processed_mjd_tai": ("MJD TAI", "when the survey processed the trigger (LSST)"),
    "programid": ("", "ZTF program: 1 public, 2 partnership, 3 Caltech"),
    "magnitude": ("mag", "AB magnitude of the absolute value of the trigger's difference flux"),
    "brightest_magnitude": ("mag", "AB magnitude of the brightest positive detection up to the trigger, any band"),
    "snr": ("", "absolute difference flux of the trigger over its error"),
    "is_positive": ("bool", "the trigger is brighter than the template"),
    "reliability": ("", "real/bogus score, 0 bogus to 1 real (ZTF: drb, before 3.3 rb); comparable only within a survey"),
    "n_detections": (
        "",
        "detections of the object as the survey counts them, trigger included; else those in the packet",
    ),
    "days_since_first": ("d", "from the object's first detection, as the survey states it, to the trigger"),
    "galactic_latitude_deg": ("deg", "Galactic latitude of the trigger"),
    "galactic_longitude_deg": ("deg", "Galactic longitude of the trigger, 0 to 360"),
    "ecliptic_latitude_deg": ("deg", "latitude over the mean ecliptic of J2000"),
    "star_score": ("", "how star-like the nearest catalogued source is: 0 galaxy to 1 star (ZTF: sgscore1)"),
    "star_separation_arcsec": ("arcsec", "separation of that source from the trigger (ZTF: distpsnr1)"),
    "host_separation_arcsec": (
        "arcsec",
        "separation of the nearest catalogued source with a star score below 0.5",
    ),
    "host_redshift": ("", "redshift of the host, where a broker added one; official packets have none"),
    "reference_separation_arcsec": ("arcsec", "separation of the nearest source of the reference image (ZTF: distnr)"),
    "reference_magnitude": ("mag", "AB magnitude of that source (ZTF: magnr)"),
    "solar_system_separation_arcsec": ("arcsec", "separation of the nearest known solar-system object (ZTF: within 30 arcsec)"),
    "psf_fwhm_arcsec": ("arcsec", "full width at half maximum of the PSF, Gaussian equivalent (ZTF: of the source itself)"),
    "is_dipole": ("bool", "the trigger is fitted better by a dipole (LSST)"),
    "n_bad_pixels": ("", "bad pixels in the 5 x 5 pixels around the trigger (ZTF)"),
    "extendedness": ("", "of the difference source itself: 0 point-like to 1 extended (LSST); no star-galaxy score"),
    "has_pixel_flags": ("bool", "any pixel of the trigger's footprint is flagged (LSST)"),
    "is_injected": ("bool", "a synthetic source was injected at the trigger (LSST)"),
    "is_withdrawn": ("bool", "the survey has withdrawn the trigger (LSST)"),
    "time_is_plausible": ("bool", "the trigger's time lies between 1995 and 2055; made-up packets have others"),
    "science_flux_njy": ("nJy", "flux on the visit image at the trigger's place, host included (LSST)"),
    "science_flux_err_njy": ("nJy", "its 1-sigma error"),
    "template_flux_njy": ("nJy", "flux on the template at the trigger's place (LSST)"),
    "template_flux_err_njy": ("nJy", "its 1-sigma error"),
    "rows_dropped": ("", "rows of the histories that were unusable: no time or band, a sentinel for a flux, withdrawn"),
}
for _band in "ugrizy":
    FACTS[f"{_band}_science_flux_mean_njy"] = (
        "nJy",
        f"mean flux on visit images in {_band}, host included (LSST)",
    )
for _n in _NTH:
    _which = _PS1.format(n=_NTH[_n])
    FACTS[f"ps1_{_n}_separation_arcsec"] = ("arcsec", f"separation {_which}")
    FACTS[f"ps1_{_n}_star_score"] = ("", f"star score, 0 galaxy to 1 star, {_which}")
    for _band in "griz":
        FACTS[f"ps1_{_n}_{_band}"] = ("mag", f"AB magnitude in {_band} {_which}")

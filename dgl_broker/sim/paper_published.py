"""Systems of the paper's sets as the published simulator made them, with its defects, each of which is a switch.

For comparison only: a network trained on these learns galaxies and noise that the sky does not have. Needs the 16 parameter
tables and cadences (`DGL_SIM_DATA`). Known differences that remain: SN Ia are Hsiao's at M_B -19.25 (the chain drew SALT2's or
Nugent's template), all 43 core-collapse series are used (the chain dropped seven), and its polynomial "correction" of
light curves, of which only the effect is known, is left out.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from dgl_broker.alert import BANDS
from dgl_broker.scores import CLASSES
from dgl_broker.sim import cosmology
from dgl_broker.sim.galaxies import Galaxy
from dgl_broker.sim.lensing import Lens, solve_images
from dgl_broker.sim.paper_recipe import DEEP_ZERO_POINTS, PAPER_BANDS, SIDE, draw_configuration, published_nights, reference_mjd
from dgl_broker.sim.paper_scene import Observing, PaperScene
from dgl_broker.sim.sim_data import load_galaxy_table, need_data_folder
from dgl_broker.sim.supernovae import Explosion, templates

LIBRARY_REDSHIFTS = 15


@dataclass(frozen=True)
class Defects:
    """Switches of the published simulator's defects (simulation notes, section 3)."""

    sky_as_counts: bool = True  # the sky's magnitude is used as if it were counts per second and arcsec^2
    signed_magnification: bool = True  # saddle images have negative flux
    delay_added: bool = True  # later images show later phases
    template_integral: bool = True  # core-collapse series are divided by their own integral, not set to a luminosity
    redshift_library: bool = True  # light curves of 15 redshifts a pointing, one random template each; the nearest is used
    random_zero_points: bool = True  # `des_deep`: a zero point per epoch and band that is never calibrated out
    raw_mjd: bool = True  # `des_wide`: nights in MJD, maxima on a clock that starts at 0, so no supernova is ever seen
    shared_tables: bool = True  # one table of 500 rows a configuration, sampled with replacement
    extra_lens: bool = True  # configurations 6 and 12 carry a second lens of theta_E 1 arcsec
    empty_sky_counts: bool = True  # Poisson counts of mean 30 to 100 e/s on the empty sky
    copies: bool = False  # eight mirrored and turned copies of every system; off, since they are one system in any split


class _WithExtraLens:
    """A lens with a round isothermal one of theta_E 1 arcsec at the same place, for ray-shooting only."""

    def __init__(self, lens):
        self.lens, self.theta_e = lens, lens.theta_e + 1.0

    def source_plane(self, x, y):
        """Where image-plane points come from."""
        beta_x, beta_y = self.lens.source_plane(x, y)
        radius = np.hypot(x, y) + 1e-12
        return beta_x - x / radius, beta_y - y / radius


@cache
def tables(folder):
    """All parameter tables by configuration number; configuration 13, the empty sky, has none."""
    found = {}
    for number in range(1, 18):
        path = folder / "galaxies" / f"full_config_{number}.txt"
        if path.exists():
            found[number] = load_galaxy_table(path)
    return found


@cache
def _nights(name, folder):
    return published_nights(name, folder), reference_mjd(name, folder)


@cache
def _library(seed, name, pointing, kind, folder, filters):
    """Redshifts (15,) and one explosion for each, as the chain prepared them for a pointing."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, pointing, {"Ia": 1, "CC": 2}[kind]]))
    table = templates(filters, folder)
    z = np.sort(rng.uniform(0.1, 1.6, LIBRARY_REDSHIFTS))  # the span of the tables' sources and lenses
    choice = [0] * len(z) if kind == "Ia" else rng.choice(len(table.types), len(z), p=table.core_collapse_chance)
    return z, [int(k) for k in choice]


class PublishedSystem:
    """One system of a published set; attributes as `PhysicalSystem`."""

    def __init__(self, rng, recipe, folder, seed, sn_off, defects):
        self.recipe, self.folder, self.defects, self.seed = recipe, folder, defects, seed
        self.configuration = draw_configuration(rng)
        number = self.configuration.number
        self.scene, self.extra_counts = PaperScene(), None
        self.record = {"configuration": number, "label": self.configuration.label}
        self._draw_observing(rng)
        self.row = {}
        if number in tables(folder):
            self._draw_row(rng, number)
            self._draw_statics(rng)
        elif defects.empty_sky_counts:
            shape = (recipe.steps, 4, SIDE, SIDE)
            self.extra_counts = rng.poisson(rng.uniform(30.0, 100.0), shape).astype(np.float32)
        if self.configuration.supernova:
            self._draw_supernova(rng, sn_off)

    @property
    def label(self):
        """Class index in `CLASSES`."""
        return CLASSES.index(self.configuration.label)

    def _draw_observing(self, rng):
        recipe, t, defects = self.recipe, self.recipe.steps, self.defects
        pointings, reference = _nights(recipe.name, self.folder)
        self.pointing = int(rng.integers(len(pointings)))
        nights = pointings[self.pointing][:t] - (0.0 if defects.raw_mjd else reference)
        seeing = np.maximum(recipe.seeing_arcsec.draw(rng, (t, 4)), 0.5)
        sky = recipe.sky_mag_arcsec2.draw(rng, (t, 4))
        zero = np.tile(recipe.zero_point_mag.median, (t, 1))
        if recipe.name == "des_deep" and defects.random_zero_points:
            lower, upper, share = DEEP_ZERO_POINTS
            zero = np.where(rng.uniform(size=(t, 4)) < share, upper, lower) + rng.normal(0.0, 0.08, (t, 4))
        counts = sky if defects.sky_as_counts else 10.0 ** (0.4 * (zero - sky))
        self.observing = Observing(recipe, nights, seeing, counts, zero)
        self.record["pointing"] = self.pointing

    def _draw_row(self, rng, number):
        """A row of the configuration's own table; without that defect, of any configuration that shows the same."""
        if not self.defects.shared_tables:
            alike = [k for k, table in tables(self.folder).items() if set(tables(self.folder)[number]) <= set(table)]
            number = int(rng.choice(alike))
        table = tables(self.folder)[number]
        row = int(rng.integers(len(table["WEIGHT"])))
        self.row = {name: float(values[row]) for name, values in table.items()}
        self.record |= {"table": number, "row": row}

    def _galaxies(self, prefix, east=0.0, north=0.0):
        """One `Galaxy` a band, as radii and indices differ by band in the tables; equal ones are the same object."""
        light = prefix + "LIGHT_PROFILE_1-"
        mags = np.full(len(BANDS), 99.0)
        for band in PAPER_BANDS:
            mags[BANDS.index(band)] = self.row[f"{light}magnitude-{band}"]
        made = {}
        for band in PAPER_BANDS:
            shape = (self.row[f"{light}R_sersic-{band}"], self.row[f"{light}n_sersic-{band}"])
            if shape not in made:
                e1, e2 = self.row[light + "e1"], self.row[light + "e2"]
                made[shape] = Galaxy(self.row[prefix + "REDSHIFT"], mags, *shape, e1, e2, east=east, north=north)
            made[band] = made[shape]
        return [made[band] for band in PAPER_BANDS]

    def _star(self, rng, number, centred):
        half = 0.5 * SIDE * self.recipe.pixel_arcsec
        mags = np.full(len(BANDS), 99.0)
        for band in PAPER_BANDS:
            mags[BANDS.index(band)] = self.row[f"PLANE_1-OBJECT_{number}-magnitude-{band}"]
        place = (0.0, 0.0) if centred else rng.uniform(-half, half, 2)
        self.scene.add_star(self.recipe, *place, mags, self.recipe.steps)

    def _draw_statics(self, rng):
        recipe, configuration = self.recipe, self.configuration
        first = "PLANE_1-OBJECT_1-"
        if configuration.galaxy:
            self.galaxy = self._galaxies(first)
            self.scene.add_galaxy(recipe, self.galaxy)
        if configuration.companion:
            # Each coordinate on its own: 1 to 4 arcsec on either side.
            east, north = rng.uniform(1.0, 4.0, 2) * rng.choice([-1.0, 1.0], 2)
            self.scene.add_galaxy(recipe, self._galaxies("PLANE_1-OBJECT_3-", east, north))
        if configuration.lensed:
            centre = rng.uniform(-0.05, 0.05, 2)
            self.source = self._galaxies("PLANE_2-OBJECT_1-", *centre)
            z_l, z_s = self.galaxy[0].z, self.source[0].z
            sigma_v = self.row[first + "MASS_PROFILE_1-sigma_v"]
            e1, e2 = self.row[first + "MASS_PROFILE_1-e1"], self.row[first + "MASS_PROFILE_1-e2"]
            theta_e = max(float(cosmology.einstein_radius_arcsec(sigma_v, z_l, z_s)), 0.02)
            self.lens = Lens(theta_e, e1, e2, 0.0, 0.0, z_l)
            extra = configuration.number in (6, 12) and self.defects.extra_lens
            self.scene.add_galaxy(recipe, self.source, _WithExtraLens(self.lens) if extra else self.lens)
            self.record |= {"z_lens": z_l, "z_source": z_s, "theta_E_arcsec": theta_e, "sigma_v": sigma_v}
        numbers = [n for n in "234" if f"PLANE_1-OBJECT_{n}-magnitude-g" in self.row]
        for k, number in enumerate(numbers[: configuration.stars]):
            self._star(rng, number, configuration.centred_star and k == 0)

    def _explosion(self, rng, kind, z):
        """Template and redshift of a light curve: the library's nearest, or a template of its own at the true redshift."""
        table = templates(self.recipe.filters, self.folder)
        if self.defects.redshift_library:
            redshifts, choice = _library(self.seed, self.recipe.name, self.pointing, kind, self.folder, self.recipe.filters)
            k = int(np.argmin(np.abs(redshifts - z)))
            z, template = float(redshifts[k]), choice[k]
        else:
            template = 0 if kind == "Ia" else int(rng.choice(len(table.types), p=table.core_collapse_chance))
        if kind == "Ia" or not self.defects.template_integral:
            drawn = table.draw(rng, kind, 1)
            absolute = -19.25 if kind == "Ia" else float(drawn[1][0])
        else:
            # Equal integrals: a series that is broad for its maximum gets a faint one, all near that of SN Ia.
            absolute = -19.25 + 2.5 * float(np.log10(table.energy[template] / table.energy[0]))
        name, sn_type = table.names[template], str(table.types[template])
        return Explosion(template, sn_type, name, absolute, 1.0, 0.0, 0.0), z

    def _draw_supernova(self, rng, sn_off):
        recipe, kind, lensed = self.recipe, self.configuration.supernova, self.configuration.lensed
        host = (self.source if lensed else self.galaxy)[0]
        radius, phi = rng.uniform(0.1, 0.4), rng.uniform(0.0, 2 * np.pi)
        place = np.array([host.east + radius * np.cos(phi), host.north + radius * np.sin(phi)])
        explosion, z = self._explosion(rng, kind, host.z)
        peak = rng.uniform(*recipe.peak_days)
        table = templates(recipe.filters, self.folder).light_curve(explosion, z, 0.0)
        places, sizes, delays = [tuple(place)], np.ones(1), np.zeros(1)
        if lensed:
            images = solve_images(self.lens, *place, host.z)
            places, delays = list(zip(images.x, images.y)), images.delay_days
            sizes = images.magnification if self.defects.signed_magnification else np.abs(images.magnification)
        sign = 1.0 if self.defects.delay_added else -1.0
        band = np.arange(1, 5)[None, :]
        fluxes = [mu * table.at(self.observing.nights - peak + sign * delay, band) for mu, delay in zip(sizes, delays)]
        if not sn_off:
            for (east, north), flux in zip(places, fluxes):
                self.scene.add_point(recipe, east, north, flux)
        total = np.sum(fluxes, axis=0) if fluxes else np.zeros((recipe.steps, 4))
        self.record |= {"n_images": len(places), "magnification": float(np.abs(sizes).sum()), "sn_type": explosion.sn_type,
                        "sn_template": explosion.name, "peak_day": float(peak),
                        "n_detections": int(np.count_nonzero(total > self.observing.five_sigma_njy))}  # fmt: skip


def published_folder(data=None):
    """The data folder that this profile cannot do without; InputUnavailable where there is none."""
    folder = need_data_folder(data, "the published profile of a paper set (16 parameter tables and cadences)")
    if not tables(folder):
        from dgl_broker.errors import InputUnavailable

        raise InputUnavailable(f"{folder}/galaxies: no full_config_N.txt, the published profile needs all 16")
    return folder


def without(defects, *names):
    """`defects` with some switched off."""
    return replace(defects, **dict.fromkeys(names, False))

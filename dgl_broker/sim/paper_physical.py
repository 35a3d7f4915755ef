"""Systems of the paper's sets as the sky would have them: the recipe's ingredients, without its defects.

One population for all classes: lens galaxies, sources and stars are drawn afresh from the copulas of the pooled tables, and
stars and neighbours stand beside every class equally often (in the recipe a second galaxy marks lenses without a
supernova). Where a class must show a visible supernova, the others are selected by one as well, which is then taken away.
"""

from dataclasses import replace

import numpy as np

from dgl_broker.scores import CLASSES
from dgl_broker.sim import cosmology
from dgl_broker.sim.galaxies import Galaxy, copula, draw_star_magnitudes, table_magnitudes
from dgl_broker.sim.lensing import Lens, solve_images
from dgl_broker.sim.paper_recipe import SIDE, draw_configuration, draw_nights
from dgl_broker.sim.paper_scene import Observing, PaperScene
from dgl_broker.sim.supernovae import templates

STAR_SHARE, NEIGHBOUR_SHARE = 0.5, 1.0 / 6.0  # over the recipe's lensed configurations
SHEAR_SCATTER = 0.05
MICROLENSING_MAG = 0.25
SOURCE_CENTRE_ARCSEC = 0.05  # the recipe's: U(-.05, .05) on each axis
MAX_TRIES = 20_000
MOST_MAGNIFIED = 100.0  # what needs more is not waited for
DELAYS_DAYS = np.array([0.0, 6.0, 12.0, 25.0, 50.0, 90.0])
WIDEST_DAYS = (-80.0, 350.0)  # from maximum, observed: no supernova of these redshifts is seen outside, delays included
EBV_MILKY_WAY = 0.03  # typical of the fields; tabulated galaxies include it


def draw_observing(rng, recipe, nights):
    """Conditions of the nights (T, 4) that the published chain keeps."""
    shape = nights.shape
    zero = recipe.zero_point_mag.draw(rng, shape)
    seeing = np.maximum(recipe.seeing_arcsec.draw(rng, shape), 0.5)
    sky = recipe.sky_mag_arcsec2.draw(rng, shape)
    return Observing(recipe, nights, seeing, 10.0 ** (0.4 * (zero - sky)), zero)


def _table_galaxy(rng, population):
    """One galaxy of the tables' copula, as a `Galaxy` whose u and y repeat their neighbours."""
    rows = copula(population).draw(rng, 1)
    mags = table_magnitudes(rows)[0]
    e = np.array([rows["e1"][0], rows["e2"][0]])
    e = e * min(1.0, 0.5 / max(np.hypot(*e), 1e-9))
    sigma_v = float(np.exp(rows["ln_sigma_v"][0])) if "ln_sigma_v" in rows else np.nan
    return Galaxy(float(max(rows["z"][0], 0.03)), mags[[0, 0, 1, 2, 3, 3]], float(np.exp(rows["ln_radius"][0])),
                  float(np.clip(rows["n"][0], 0.3, 4.5)), *(float(v) for v in e), sigma_v_km_s=sigma_v)  # fmt: skip


def draw_pair(rng):
    """A lens galaxy, its mass, and a source behind it near the axis."""
    while True:
        galaxy, source = _table_galaxy(rng, "lens"), _table_galaxy(rng, "source")
        if source.z > galaxy.z + 0.03:
            break
    theta_e = float(cosmology.einstein_radius_arcsec(galaxy.sigma_v_km_s, galaxy.z, source.z))
    lens = Lens(max(theta_e, 0.02), galaxy.e1, galaxy.e2, *(float(g) for g in rng.normal(0, SHEAR_SCATTER, 2)), galaxy.z)
    return galaxy, lens, source.at(*rng.uniform(-SOURCE_CENTRE_ARCSEC, SOURCE_CENTRE_ARCSEC, 2))


def multiple_images(rng, lens, source, needed=0.0, tries=12):
    """`Images` of a supernova that follows the source's light where the lens makes several; None where it makes one.

    `needed` is the magnification without which nothing would be seen: places that clearly give less, outside 0.3 theta_E
    where a third of it is more than an isothermal sphere's, end the search before the lens equation is solved.
    """
    places = source.draw_offsets(rng, 60) + [source.east, source.north]
    for beta_x, beta_y in places[np.hypot(*places.T) < 1.3 * lens.theta_e][:tries].tolist():
        off_axis = np.hypot(beta_x, beta_y) / lens.theta_e
        if off_axis > 0.3 and 6.0 / off_axis < needed:
            return None
        images = solve_images(lens, beta_x, beta_y, source.z)
        if len(images) > 1:
            return images
    return None


class PhysicalSystem:
    """One system of a set; the same for the same generator.

    Attributes
    ----------
    configuration : Configuration
        Of the recipe: it sets the class and whether there are galaxy, source and supernova.
    record : dict
        Numbers about it.
    """

    def __init__(self, rng, recipe, folder, sn_off, select):
        self.recipe, self.table = recipe, templates(recipe.filters, folder)
        self.configuration = draw_configuration(rng)
        n_draws = 1
        while not self._draw(rng, select):
            n_draws += 1
            if n_draws > MAX_TRIES:
                raise RuntimeError(f"{recipe.name}: no visible supernova in {MAX_TRIES} draws")
        self.record |= {"n_draws": n_draws, "configuration": self.configuration.number, "label": self.configuration.label}
        self._surroundings(rng)
        if not sn_off and self.configuration.supernova:
            for (east, north), flux in zip(self.sn_places, self.sn_flux):
                self.scene.add_point(recipe, east, north, flux)

    def _draw(self, rng, select):
        """Draws all but neighbours and stars; False where the system fails its selection."""
        configuration, recipe = self.configuration, self.recipe
        self.scene, self.record = PaperScene(), {}
        self.sn_places, self.sn_flux = [], []
        nights = draw_nights(rng, recipe.name)[: recipe.steps]
        peak = rng.uniform(*recipe.peak_days)
        days = nights - peak
        if configuration.galaxy and select and not np.any((days > WIDEST_DAYS[0]) & (days < WIDEST_DAYS[1])):
            return False
        self.observing = draw_observing(rng, recipe, nights)
        if not configuration.galaxy:
            return True
        galaxy, lens, source = draw_pair(rng)
        host_is_lens = configuration.supernova is not None and not configuration.lensed
        # Without a supernova of its own a system is selected by one that is then taken away.
        kind = configuration.supernova or ("Ia" if rng.uniform() < 0.5 else "CC")
        drawn = self.table.draw(rng, kind, 1)
        z = galaxy.z if host_is_lens else source.z
        table = self.table.light_curve(self.table.explosion(drawn, 0), z, EBV_MILKY_WAY)
        if host_is_lens:
            self._add_supernova(table, peak, galaxy.draw_offsets(rng, 1), [1.0], [0.0])
            self.record |= {"n_images": 1, "magnification": 1.0, "z_source": galaxy.z}
        else:
            needed = self._needed_magnification(table, peak) if select else 0.0
            images = multiple_images(rng, lens, source, needed) if needed < MOST_MAGNIFIED else None
            if images is None:
                return False
            sizes = np.abs(images.magnification) * 10 ** (-0.4 * rng.normal(0, MICROLENSING_MAG, len(images)))
            self._add_supernova(table, peak, np.stack([images.x, images.y], axis=-1), sizes, images.delay_days)
            if configuration.lensed:
                self.record |= {"z_lens": galaxy.z, "z_source": source.z, "theta_E_arcsec": lens.theta_e}
            if configuration.supernova:
                self.record |= {"n_images": len(images), "magnification": images.total_magnification,
                                "separation_arcsec": images.separation_arcsec}  # fmt: skip
        total = np.sum(self.sn_flux, axis=0)
        detections = int(np.count_nonzero(total > self.observing.five_sigma_njy))
        if select and detections < recipe.detections:
            return False
        if configuration.supernova:
            explosion = self.table.explosion(drawn, 0)
            self.record |= {"sn_type": explosion.sn_type, "sn_template": explosion.name, "peak_day": float(peak),
                            "n_detections": detections}  # fmt: skip
        self.record |= {"sigma_v": galaxy.sigma_v_km_s, "lens_mag_i": float(galaxy.magnitudes[3])}
        self.scene.add_galaxy(recipe, galaxy)
        if configuration.lensed:
            self.scene.add_galaxy(recipe, source, lens)
        return True

    def _needed_magnification(self, table, peak):
        """Magnification that lifts enough band-epochs to 5 sigma, whatever the usual delays do."""
        band = np.arange(1, 5)[None, None, :]
        days = self.observing.nights - peak - DELAYS_DAYS[:, None, None]
        best = np.maximum(table.at(days, band).max(axis=0), 1e-6)
        return np.sort(self.observing.five_sigma_njy / best, axis=None)[self.recipe.detections - 1]

    def _add_supernova(self, table, peak, places, sizes, delays):
        band = np.arange(1, 5)[None, :]
        self.sn_places = places
        self.sn_flux = [size * table.at(self.observing.nights - peak - delay, band) for size, delay in zip(sizes, delays)]

    def _surroundings(self, rng):
        """Neighbours and stars, alike for all configurations with a galaxy."""
        recipe, configuration, half = self.recipe, self.configuration, 0.5 * SIDE * self.recipe.pixel_arcsec
        stars = configuration.stars if not configuration.galaxy else int(rng.uniform() < STAR_SHARE)
        if configuration.galaxy and rng.uniform() < NEIGHBOUR_SHARE:
            neighbour = _table_galaxy(rng, "lens")
            east, north = rng.uniform(1.0, 4.0, 2) * rng.choice([-1.0, 1.0], 2)
            self.scene.add_galaxy(recipe, replace(neighbour, east=float(east), north=float(north)))
        for k, mags in enumerate(draw_star_magnitudes(rng, stars) if stars else ()):
            place = (0.0, 0.0) if configuration.centred_star and k == 0 else rng.uniform(-half, half, 2)
            self.scene.add_star(recipe, *place, mags, recipe.steps)

    @property
    def label(self):
        """Class index in `CLASSES`."""
        return CLASSES.index(self.configuration.label)

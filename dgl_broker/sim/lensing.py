"""A singular isothermal ellipsoid with external shear: deflections, magnifications, delays, and the lens equation.

Conventions are lenstronomy's (profiles `SIE` and `SHEAR`): ellipticity e = (1 - q) / (1 + q), convergence
theta_E / 2 / sqrt(q x^2 + y^2 / q) along the major axis; positions are (east, north) in arcsec from the lens. The lens
equation is solved by lenstronomy's analytic solver (Wempe et al. 2022, arXiv 2211.11762); the rest is closed form and
vectorised here, since ray-shooting thousands of pixels through lenstronomy costs several times as much.
"""

from dataclasses import dataclass

import numpy as np

from dgl_broker.sim import cosmology
from dgl_broker.sim.galaxies import axis_ratio_and_angle


@dataclass(frozen=True)
class Lens:
    """Mass of one lens: Einstein radius [arcsec], ellipticity, external shear, redshift."""

    theta_e: float
    e1: float
    e2: float
    gamma1: float
    gamma2: float
    z: float

    def __post_init__(self):
        q, angle = axis_ratio_and_angle(self.e1, self.e2)
        # Below 1e-3 the closed form divides by nothing; the change of shape is under 1e-3 of theta_E.
        object.__setattr__(self, "_q", min(q, 1.0 - 1e-3))
        object.__setattr__(self, "_cos", np.cos(angle))
        object.__setattr__(self, "_sin", np.sin(angle))

    def lenstronomy_kwargs(self):
        """Parameters of lenstronomy's profiles ["SIE", "SHEAR"]."""
        q = self._q
        size = (1 - q) / (1 + q)
        cos2, sin2 = self._cos**2 - self._sin**2, 2 * self._sin * self._cos
        return [
            {"theta_E": self.theta_e, "e1": size * cos2, "e2": size * sin2, "center_x": 0.0, "center_y": 0.0},
            {"gamma1": self.gamma1, "gamma2": self.gamma2, "ra_0": 0.0, "dec_0": 0.0},
        ]

    def sie_deflection(self, x, y):
        """Deflection of the ellipsoid alone [arcsec], arrays of any shape."""
        q = self._q
        u, v = self._cos * x + self._sin * y, -self._sin * x + self._cos * y
        b, root = self.theta_e * np.sqrt(q), np.sqrt(1 - q * q)
        # Tiny floor: at the very centre the deflection has a direction but no value.
        radius = np.sqrt(q * q * u * u + v * v) + 1e-12
        along = b / root * np.arctan(root * u / radius)
        across = b / root * np.arctanh(root * v / radius)
        return self._cos * along - self._sin * across, self._sin * along + self._cos * across

    def source_plane(self, x, y):
        """Where image-plane points come from: beta = theta - alpha - Gamma theta."""
        ax, ay = self.sie_deflection(x, y)
        return x - ax - self.gamma1 * x - self.gamma2 * y, y - ay - self.gamma2 * x + self.gamma1 * y

    def magnification(self, x, y):
        """Signed magnification at image-plane points; negative at saddles."""
        q = self._q
        u, v = self._cos * x + self._sin * y, -self._sin * x + self._cos * y
        kappa = 0.5 * self.theta_e * np.sqrt(q) / (np.sqrt(q * q * u * u + v * v) + 1e-12)
        r2 = x * x + y * y + 1e-24
        # An isothermal ellipsoid's shear is its convergence in size and tangential in direction.
        g1 = -kappa * (x * x - y * y) / r2 + self.gamma1
        g2 = -kappa * 2 * x * y / r2 + self.gamma2
        return 1.0 / ((1 - kappa) ** 2 - g1 * g1 - g2 * g2)

    def fermat_potential(self, x, y, beta_x, beta_y):
        """Fermat potential [arcsec^2]; the ellipsoid's potential is theta . alpha, as it is homogeneous of degree 1."""
        ax, ay = self.sie_deflection(x, y)
        shear = 0.5 * self.gamma1 * (x * x - y * y) + self.gamma2 * x * y
        return 0.5 * ((x - beta_x) ** 2 + (y - beta_y) ** 2) - (x * ax + y * ay) - shear


@dataclass(frozen=True)
class Images:
    """Images of one point source, in order of arrival.

    `x`, `y` [arcsec], signed `magnification`, `delay_days` after the first one; all of shape (n_images,).
    """

    x: np.ndarray
    y: np.ndarray
    magnification: np.ndarray
    delay_days: np.ndarray

    def __len__(self):
        return len(self.x)

    @property
    def total_magnification(self):
        """Sum of |mu|."""
        return float(np.abs(self.magnification).sum())

    @property
    def separation_arcsec(self):
        """Largest distance between two images; 0 for a single one."""
        if len(self) < 2:
            return 0.0
        return float(np.hypot(self.x[:, None] - self.x, self.y[:, None] - self.y).max())


_SOLVER = None


def _solve(lens, beta_x, beta_y):
    """Image positions from lenstronomy's analytic solver, unsorted."""
    global _SOLVER
    if _SOLVER is None:
        from lenstronomy.LensModel.lens_model import LensModel
        from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver

        _SOLVER = LensEquationSolver(LensModel(["SIE", "SHEAR"]))
    x, y = _SOLVER.image_position_from_source(
        beta_x, beta_y, lens.lenstronomy_kwargs(), solver="analytical", magnification_limit=None
    )
    return np.asarray(x, float), np.asarray(y, float)


def solve_images(lens, beta_x, beta_y, z_source, faintest=1e-3):
    """All images of a point source.

    Parameters
    ----------
    lens : Lens
    beta_x, beta_y : float
        Source position [arcsec] from the lens.
    z_source : float
        For the delays.
    faintest : float
        Images with |mu| below it are dropped (those that a singular centre swallows).

    Returns
    -------
    Images
        May be empty where the solver finds none (a source exactly on a caustic).
    """
    x, y = _solve(lens, beta_x, beta_y)
    mu = lens.magnification(x, y)
    keep = np.isfinite(mu) & (np.abs(mu) > faintest)
    x, y, mu = x[keep], y[keep], mu[keep]
    if len(x) == 0:
        return Images(x, y, mu, x)
    arrival = lens.fermat_potential(x, y, beta_x, beta_y)
    arrival = arrival * cosmology.time_delay_days_per_arcsec2(lens.z, z_source)
    order = np.argsort(arrival)
    return Images(x[order], y[order], mu[order], (arrival - arrival.min())[order])


MULTIPLE_DISC = 1.25  # radius in theta_E of a disc that holds the region of several images, for q > 0.45, shear < 0.15
IMAGE_PLANE_FROM = 5.0  # total magnification from which the image plane is sampled
IMAGE_PLANE_HALF = 2.2  # half-side of the sampled square in theta_E: beyond it no image is magnified more than twice


def draw_source_position(rng, lens, z_source, needed_magnification, tries=60):
    """A point source uniform over the part of the source plane with several images and at least a total magnification.

    For small magnifications a disc is sampled. For large ones, M, the image plane is, where |mu| >= M / 4 (one of at most
    four images is that bright): a point drawn there stands for its source with the weight sum of those |mu|, which is
    taken out by rejection, so that the result is uniform in the source plane. The weight's least value is taken as M / 2;
    it falls below only where one image lies between M / 4 and M / 2 and three just below M / 4.

    Returns
    -------
    (beta_x, beta_y, Images), or None after `tries` solved lens equations
    """
    radius = MULTIPLE_DISC * lens.theta_e
    if needed_magnification < IMAGE_PLANE_FROM:
        for _ in range(tries):
            r, phi = radius * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
            beta = r * np.cos(phi), r * np.sin(phi)
            images = solve_images(lens, *beta, z_source)
            if len(images) > 1 and images.total_magnification >= needed_magnification:
                return (*beta, images)
        return None
    least, solved = needed_magnification / 4.0, 0
    half = lens.theta_e * IMAGE_PLANE_HALF
    for _ in range(50 * tries):
        x, y = rng.uniform(-half, half, (2, 1000))
        bright = np.abs(lens.magnification(x, y)) >= least
        betas = np.stack(lens.source_plane(x[bright], y[bright]), axis=-1)
        betas = betas[np.hypot(*betas.T) < radius]
        luck = rng.uniform(size=len(betas))
        for (beta_x, beta_y), chance in zip(betas[: tries - solved].tolist(), luck):
            solved += 1
            images = solve_images(lens, beta_x, beta_y, z_source)
            if len(images) < 2 or images.total_magnification < needed_magnification:
                continue
            sizes = np.abs(images.magnification)
            if chance < 2.0 * least / sizes[sizes >= least].sum():
                return beta_x, beta_y, images
        if solved >= tries:
            break
    return None

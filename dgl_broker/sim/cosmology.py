"""Distances, volumes and times in flat LCDM with H0 = 70 km/s/Mpc and Om = 0.30, from one table made at import.

The parameters are those of the published recipe (deepskies/DeepZipper). A table with linear interpolation is a thousand
times faster than an integral a call and exact to 1e-5 here.
"""

import numpy as np

H0_KM_S_MPC = 70.0
OMEGA_M = 0.30
C_KM_S = 299792.458
MPC_KM = 3.0856775814913673e19
ARCSEC_RAD = np.pi / 180.0 / 3600.0
DAY_S = 86400.0
Z_MAX = 12.0

_Z = np.concatenate([np.linspace(0.0, 0.1, 1001), np.linspace(0.1, Z_MAX, 11901)[1:]])


def _comoving_table():
    """Comoving distance [Mpc] at `_Z` by Simpson's rule on each interval."""

    def inverse_e(z):
        return 1.0 / np.sqrt(OMEGA_M * (1.0 + z) ** 3 + 1.0 - OMEGA_M)

    middle = 0.5 * (_Z[1:] + _Z[:-1])
    steps = np.diff(_Z) / 6.0 * (inverse_e(_Z[:-1]) + 4.0 * inverse_e(middle) + inverse_e(_Z[1:]))
    return C_KM_S / H0_KM_S_MPC * np.concatenate([[0.0], np.cumsum(steps)])


_DC = _comoving_table()


def comoving_distance_mpc(z):
    """Line-of-sight comoving distance [Mpc], z up to 12."""
    return np.interp(z, _Z, _DC)


def luminosity_distance_mpc(z):
    """Luminosity distance [Mpc]."""
    return (1.0 + np.asarray(z, float)) * comoving_distance_mpc(z)


def angular_distance_mpc(z):
    """Angular-diameter distance [Mpc]."""
    return comoving_distance_mpc(z) / (1.0 + np.asarray(z, float))


def angular_distance_between_mpc(z_near, z_far):
    """Angular-diameter distance [Mpc] from `z_near` to `z_far`; zero where the far one is not behind."""
    gap = np.maximum(comoving_distance_mpc(z_far) - comoving_distance_mpc(z_near), 0.0)
    return gap / (1.0 + np.asarray(z_far, float))


def distance_modulus(z):
    """Distance modulus [mag]; z must be positive."""
    return 5.0 * np.log10(luminosity_distance_mpc(z)) + 25.0


def kpc_per_arcsec(z):
    """Proper transverse size of one arcsec [kpc]."""
    return angular_distance_mpc(z) * 1e3 * ARCSEC_RAD


def comoving_volume_per_z(z):
    """dV/dz per steradian [Mpc^3 / sr]."""
    z = np.asarray(z, float)
    hubble = H0_KM_S_MPC * np.sqrt(OMEGA_M * (1.0 + z) ** 3 + 1.0 - OMEGA_M)
    return C_KM_S / hubble * comoving_distance_mpc(z) ** 2


def einstein_radius_arcsec(sigma_v_km_s, z_lens, z_source):
    """Einstein radius of a singular isothermal sphere [arcsec]: 4 pi (sigma/c)^2 D_ls/D_s; 0 for a source in front."""
    ratio = angular_distance_between_mpc(z_lens, z_source) / np.maximum(angular_distance_mpc(z_source), 1e-9)
    return 4.0 * np.pi * (np.asarray(sigma_v_km_s, float) / C_KM_S) ** 2 * ratio / ARCSEC_RAD


def time_delay_days_per_arcsec2(z_lens, z_source):
    """Delay [days] per arcsec^2 of Fermat potential: (1 + z_l) D_l D_s / (c D_ls)."""
    distance = (1.0 + z_lens) * angular_distance_mpc(z_lens) * angular_distance_mpc(z_source)
    distance = distance / angular_distance_between_mpc(z_lens, z_source)
    return distance * MPC_KM / C_KM_S / DAY_S * ARCSEC_RAD**2

"""Core-collapse spectra without any data file: black bodies with line blanketing on simple bolometric light curves.

Stripped envelopes (Ib, Ic): Arnett (1982) light curve of nickel decay with diffusion time 9 to 14 days. II-P: rise,
plateau of 75 to 110 days, drop, cobalt tail; II-L: linear decline; IIn: slow rise and decline, hot. Colours are a few
tenths of a magnitude off beyond z = 0.5, where observed g and r are the ultraviolet; no lines. For use where the observed
series are not at hand, and as augmentation.
"""

import numpy as np

PHASE = np.arange(-50.0, 150.1, 2.0)
WAVE = np.arange(1000.0, 25000.0, 40.0)


def _black_body(temperature):
    """f_lambda of unit bolometric flux (n_phase, n_wave) up to a common factor, blanketed below 3600 A when cool."""
    x = np.clip(1.43877688e8 / (WAVE[None, :] * temperature[:, None]), None, 500.0)
    shape = WAVE[None, :] ** -5.0 / np.expm1(x) / temperature[:, None] ** 4
    # Iron-group lines eat the near ultraviolet once the photosphere recombines.
    strength = 1.0 / (1.0 + np.exp((temperature[:, None] - 9000.0) / 800.0))
    blanket = np.exp(-np.clip(3600.0 - WAVE, 0.0, 1400.0) / 450.0)
    return shape * (1.0 - strength * (1.0 - blanket[None, :]))


def _arnett(days, diffusion_days):
    """Bolometric light curve of nickel and cobalt decay diffusing out, Arnett 1982; zero before explosion."""
    t = np.clip(days, 0.0, None)
    steps = np.linspace(0.0, 1.0, 200)[None, :] * t[:, None]
    deposited = np.exp(-steps / 8.8) + 0.158 * (np.exp(-steps / 111.3) - np.exp(-steps / 8.8))
    kernel = 2 * steps / diffusion_days**2 * np.exp((steps**2 - t[:, None] ** 2) / diffusion_days**2)
    return np.trapezoid(kernel * deposited, steps, axis=1)


def _cooling(days, hot, cool, scale):
    return cool + (hot - cool) * np.exp(-np.clip(days, 0.0, None) / scale)


def _rise(days, rise):
    return 1.0 - np.exp(-((np.clip(days, 0.0, None) / rise) ** 2))


def analytic_seds():
    """Analytic core-collapse series.

    Returns
    -------
    list of (name, type, weight, phase (p,) [day], wave (w,) [A], flux (p, w))
        As `load_kessler_seds` gives; phase 0 is near maximum, amplitude is arbitrary.
    """
    out = []

    def add(name, kind, days_since_explosion, luminosity, temperature):
        flux = luminosity[:, None] * _black_body(temperature)
        out.append((name, kind, 1.0, PHASE, WAVE, flux / flux.max()))
        assert len(days_since_explosion) == len(PHASE)

    for plateau in (75.0, 92.0, 110.0):
        t = PHASE + 8.0
        level = _rise(t, 4.0) * 10 ** (-0.4 * 0.004 * np.clip(t, 0, plateau))
        drop = 10 ** (-0.4 * 2.0 / (1.0 + np.exp(-(t - plateau) / 4.0)))
        tail = 10 ** (-0.4 * 0.0098 * np.clip(t - plateau, 0, None))
        add(f"analytic-iip-{plateau:.0f}", "IIP", t, level * drop * tail, _cooling(t, 16000.0, 5800.0, 13.0))
    for slope in (0.02, 0.03):
        t = PHASE + 12.0
        level = _rise(t, 6.0) * 10 ** (-0.4 * slope * np.clip(t, 0, 80)) * 10 ** (-0.4 * 0.0098 * np.clip(t - 80, 0, None))
        add(f"analytic-iil-{slope}", "IIL", t, level, _cooling(t, 15000.0, 6000.0, 15.0))
    for rise, slope in ((12.0, 0.008), (22.0, 0.014)):
        t = PHASE + 1.6 * rise
        level = _rise(t, rise) * 10 ** (-0.4 * slope * np.clip(t, 0, None))
        add(f"analytic-iin-{rise:.0f}", "IIN", t, level, _cooling(t, 15000.0, 7500.0, 35.0))
    for kind, diffusions in (("Ib", (10.0, 13.0)), ("Ic", (8.5, 11.0, 15.0))):
        for diffusion in diffusions:
            t = PHASE + 1.5 * diffusion
            hot, cool = (11000.0, 5200.0) if kind == "Ib" else (10000.0, 4900.0)
            temperature = _cooling(t, hot, cool, 1.3 * diffusion)
            add(f"analytic-{kind.lower()}-{diffusion:.0f}", kind, t, _arnett(t, diffusion), temperature)
    return out

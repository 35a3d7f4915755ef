"""The networks, their ensemble, calibration and bundles.

Names are imported on first use, so that what needs no torch (cards, calibration) starts without it.
"""

from importlib import import_module

_HOME = {
    "NetworkShape": "shape",
    "Widths": "shape",
    "alert_widths": "shape",
    "paper_widths": "shape",
    "build_network": "fusion_networks",
    "build_paper_network": "fusion_networks",
    "build_members": "fusion_networks",
    "fold_batch_norm": "folding",
    "flops": "folding",
    "SvmArrays": "svm",
    "Fusion": "fusion",
    "fit_svm": "fitting",
    "choose_svm": "fitting",
    "fit_fusion": "fitting",
    "Calibration": "calibration",
    "fit_null": "calibration",
    "Bundle": "bundle",
    "load_bundle": "bundle",
    "make_bundle": "bundle",
    "save_bundle": "bundle",
    "default_bundle": "card",
    "untrained_bundle": "untrained",
    "Ensemble": "ensemble",
    "ScoreTable": "score_table",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return __all__

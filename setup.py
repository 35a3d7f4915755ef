"""Packaging. `schemas/` and `filters/` lie at the top level and travel in the wheel as data of the package.

The compiled decoder (`native/`, Rust) is built where cargo is at hand, and left out where it is not or where DGL_DECODER=python
says so: Python's own decoder then does the same, slower. With DGL_DECODER=native it must be built.
"""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent


def decoder():
    """What `setup` is told of the compiled decoder; nothing where it is not to be built."""
    wanted = os.environ.get("DGL_DECODER", "auto")
    if wanted == "python" or (wanted != "native" and shutil.which("cargo") is None):
        return {}
    try:
        from setuptools_rust import Binding, RustExtension
    except ImportError:
        if wanted == "native":
            raise
        return {}
    extension = RustExtension(
        "dgl_broker._native",
        "native/Cargo.toml",
        binding=Binding.PyO3,
        args=["--locked"],
        debug=False,
        optional=wanted != "native",
    )
    # One wheel for this and every later Python.
    return {"rust_extensions": [extension], "options": {"bdist_wheel": {"py_limited_api": "cp311"}}, "zip_safe": False}


version = next(
    line.split('"')[1] for line in (here / "dgl_broker/__init__.py").read_text().splitlines() if line.startswith("__version__")
)

# The newest whose Kafka connector resolves; it has no types for what pandas 3 gives.
SPARK = ["pyspark==4.1.1", "pandas>=2.2,<3"]
# Each host's own package; tests/hosts has the versions that were tried. Not to be combined: their pins differ.
HOSTS = {
    "ampel": ["ampel-core>=0.10.4", "ampel-interface>=0.10.4", "ampel-alerts>=0.10.1"],
    "antares": ["antares-devkit>=0.11.1"],
    "lasair": ["lasair>=0.1.4"],
    "alerce": ["apf-base>=2.5"],
    "babamul": ["babamul>=0.2"],
    "pittgoogle": ["pittgoogle-client>=0.3.23"],
    "hopskotch": ["hop-client>=0.13", "six>=1.16"],
    "tom": ["tomtoolkit>=3.1"],
    "spark": SPARK,
    "fink": ["fink-utils>=0.79", *SPARK],
}
SERVE = ["fastapi>=0.115", "starlette>=0.40", "uvicorn>=0.30", "lmdb>=1.5"]
TUNE = ["fastapi>=0.115", "starlette>=0.40", "uvicorn>=0.30", "plotly>=6.0"]
SIM = ["scipy>=1.11", "lenstronomy>=1.12", "sncosmo>=2.11", "speclite>=0.20"]

setup(
    name="dgl-broker",
    version=version,
    description="DeepGraviLens as a filter for alert brokers: ZTF and Rubin alerts in, lensed-supernova candidate scores out",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    python_requires=">=3.11",
    packages=find_packages(include=["dgl_broker", "dgl_broker.*"]) + ["dgl_broker.schemas", "dgl_broker.filters"],
    package_dir={"dgl_broker.schemas": "schemas", "dgl_broker.filters": "filters"},
    package_data={
        "": ["*.json", "*.css"],
        "dgl_broker.tune": ["page/*"],
        "dgl_broker.hosts": ["*/*.yml"],
        "dgl_broker": ["bundles/*/*"],
        "dgl_broker.schemas": ["*.avsc", "*/*.avsc", "*.md"],
        "dgl_broker.filters": ["*.yaml"],
    },
    install_requires=[
        "torch>=2.2",
        "numpy>=1.26",
        "scikit-learn>=1.4",
        "astropy>=6.0",  # what the simulator's libraries stand on, and what tests hold our clocks, skies and FITS against
        "pyerfa>=2.0",  # its core, which the stream takes leap seconds from
        "fastavro>=1.9",
        "confluent-kafka>=2.5",
        "pydantic>=2.6",
        "PyYAML>=6.0",
        "safetensors>=0.4",
        "pyarrow>=15",
        "prometheus-client>=0.20",
        "requests>=2.31",
        "cramjam>=2.8",
        "zstandard>=0.22",
        "deflate>=0.7",
        "rich>=13.7",
        *SIM,
    ],
    extras_require={
        "redis": ["redis>=5.0"],
        "serve": SERVE,
        **HOSTS,
        "tune": TUNE,
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "schemathesis>=4.0",
            "lsst-alert-packet",
            "redis>=5.0",
            "pandas>=2.1",
            "playwright>=1.50",
            "setuptools-rust>=1.10",
            *SERVE,
            *TUNE,
        ],
        "bench": ['cavro>=1.0; python_version < "3.13"'],  # no wheels beyond
        "lint": ["ruff>=0.6"],
        "docs": ["mkdocs>=1.6,<2"],
    },
    entry_points={"console_scripts": ["dgl-broker=dgl_broker.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "License :: OSI Approved :: BSD License",
        "Topic :: Scientific/Engineering :: Astronomy",
    ],
    **decoder(),
)

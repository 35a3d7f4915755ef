"""`python -m dgl_broker.hosts.ampel OUT.yaml`: AMPEL's configuration of all that is installed, with our units in it.

AMPEL collects units from distributions whose name begins with "ampel-"; ours is called otherwise, so they are added by its own
builder here.
"""

import sys

from ampel.config.builder.DisplayOptions import DisplayOptions
from ampel.config.builder.DistConfigBuilder import DistConfigBuilder

from dgl_broker import __version__

UNITS = ("T2DeepGraviLens", "DeepGraviLensFilter")


def build(out):
    """Build the configuration and write it to the file `out`.

    Units of other distributions that cannot be imported here (for want of one of their extras) are left out, as
    `ampel config build -stop-on-errors 1` does; ours must be.
    """
    builder = DistConfigBuilder(options=DisplayOptions(hide_module_not_found_errors=True))
    builder.load_distributions()
    names, where = [f"{__package__}.{unit}" for unit in UNITS], "dgl_broker/hosts/ampel"
    builder.first_pass_config["unit"].add(names, dist_name="dgl-broker", version=__version__, register_file=where)
    missing = set(UNITS) - set(builder.first_pass_config["unit"])
    if missing:
        sys.exit(f"cannot be imported: {', '.join(sorted(missing))}")
    builder.build_config(stop_on_errors=1, config_validator=None, save=str(out), get_unit_env=False, sign=0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(sys.argv[1])

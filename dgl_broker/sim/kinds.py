"""The builder of each kind of `system.KINDS`."""

from dgl_broker.sim import field_kinds as field
from dgl_broker.sim import lens_kinds as lens

BUILDERS = {
    "lensed_sn_ia": lambda draw: lens.lensed_supernova(draw, "Ia"),
    "lensed_sn_cc": lambda draw: lens.lensed_supernova(draw, "CC"),
    "lensed_quasar": lens.lensed_quasar,
    "sn_ia_in_lens": lambda draw: lens.supernova_in_lens(draw, "Ia"),
    "sn_cc_in_lens": lambda draw: lens.supernova_in_lens(draw, "CC"),
    "sn_outside_images": lens.supernova_outside_images,
    "agn_in_lens": lens.agn_in_lens,
    "lens_bad_subtraction": lens.static_lens,
    "sn_ia_host": lambda draw: field.supernova_in_galaxy(draw, "Ia", red=False),
    "sn_cc_host": lambda draw: field.supernova_in_galaxy(draw, "CC", red=False),
    "sn_ia_lrg": lambda draw: field.supernova_in_galaxy(draw, "Ia", red=True),
    "sn_cc_lrg": lambda draw: field.supernova_in_galaxy(draw, "CC", red=True),
    "sibling_sne": field.sibling_supernovae,
    "agn": field.active_galaxy,
    "variable_star": field.variable_star,
    "tde": lambda draw: field.thermal_transient(draw, "tde"),
    "slsn": lambda draw: field.thermal_transient(draw, "slsn"),
    "moving_object": field.moving_object,
    "cosmic_ray": lambda draw: field.artefact(draw, "cosmic_ray"),
    "bad_column": lambda draw: field.artefact(draw, "bad_column"),
    "dipole": field.dipole,
}

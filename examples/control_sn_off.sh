#!/usr/bin/env bash
# What tells the classes of LSST-wide apart without the light of any supernova, in either profile: two rows of docs/results.md.
#
#   DGL_SIM_DATA=... examples/control_sn_off.sh runs/off     the published profile draws its galaxies from tables in that folder
#
# Results are OUT/sn_off_physical.json and OUT/sn_off_published.json, for docs/results/. Run it again after a cut: what is done is
# not done again.
set -euo pipefail
out=${1:?folder for data, bundles and reports}

dgl() { "${PYTHON:-python}" -m dgl_broker "$@"; }

for recipe in published physical; do
  dgl simulate --profile lsst_wide --n 8000 --seed 11 --sn-off --recipe "$recipe" --out "$out/$recipe"
  dgl train --set lsst_wide --preset off --data "$out/$recipe" --out "$out/bundle_$recipe" --seed 1 --device "${DEVICE:-auto}"
  dgl evaluate "$out/bundle_$recipe" --data "$out/$recipe" --out "$out/report_$recipe" \
    --result "$out/sn_off_$recipe.json" --device "${DEVICE:-auto}"
done

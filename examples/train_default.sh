#!/usr/bin/env bash
# Trains a default bundle from nothing: simulate, train, evaluate. Run it again after a cut: what is done is not done again.
#
#   examples/train_default.sh lsst runs/lsst            the bundle that ships (full size: hours on two cores)
#   SCALE=0.25 SEED=2 examples/train_default.sh lsst runs/lsst-seed2
#   examples/train_default.sh lsst runs/small small     the whole chain in minutes, as a test of it
#
# SCALE: times the numbers of systems. SHARE: of the training systems used. DATA: a data folder made before, to train again on.
# DGL_SIM_DATA: the simulator's optional data. The log is OUT/train.log, with the time of each step.
set -euo pipefail
survey=${1:?survey: lsst or ztf}
out=${2:?folder for data, bundle and report}
preset=${3:-alert}
data=${DATA:-$out/data}
mkdir -p "$out"
exec > >(tee -a "$out/train.log") 2>&1

step() {
  local started=$SECONDS
  echo "== $(date -u +%FT%TZ) $*"
  "$@"
  echo "== took $((SECONDS - started)) s"
}

dgl() { "${PYTHON:-python}" -m dgl_broker "$@"; }

plan="${survey}_$([ "$preset" = small ] && echo small || echo alert)"
step dgl dataset --simulate "$plan" --scale "${SCALE:-1}" --out "$data"
step dgl train --survey "$survey" --preset "$preset" --data "$data" --out "$out/bundle" --seed "${SEED:-1}" \
  --share "${SHARE:-1}" --device "${DEVICE:-auto}"
step dgl evaluate "$out/bundle" --data "$data" --out "$out/report" --device "${DEVICE:-auto}" --into-card

#!/usr/bin/env bash
# The rows of docs/results.md on the paper's sets: ours, the authors' recipe and the baselines, on one simulated set and one split.
#
#   examples/paper_sets.sh runs/paper lsst_wide_authors_quarter_1 lsst_wide_quarter_1 lsst_wide_zippernet des_deep
#
# Each name is a row of `dgl_broker/evaluation/results.py`; its result is OUT/results/NAME.json, for docs/results/. Full size is 20,000
# systems, half of them for training; `_quarter_` takes a quarter of these, and so do the baselines and the other three sets. All rows
# of a set are judged on the same 10,000 and more systems of another run, ours against the authors' recipe of the same size and seed
# where that was judged before. Run it again after a cut: what is done is not done again.
set -euo pipefail
out=${1:?folder for data, bundles and reports}
shift
mkdir -p "$out/results"

dgl() { "${PYTHON:-python}" -m dgl_broker "$@"; }

for name in "$@"; do
  [ -s "$out/results/$name.json" ] && continue
  case $name in
    lsst_wide* | desi_dot* | des_deep* | des_wide*) which=$(cut -d_ -f1,2 <<<"$name") ;;
    *) echo "$name: not a row of the paper's sets" >&2 && exit 2 ;;
  esac
  rest=${name#"$which"}
  share=0.25 seed=1 preset=paper compare=()
  case $rest in
    "") [ "$which" != lsst_wide ] || share=1 ;;
    _authors) share=1 preset=authors ;;
    _quarter_[0-9]) seed=${rest##*_} ;;
    _authors_quarter_[0-9]) seed=${rest##*_} preset=authors ;;
    _zippernet | _cnn_lstm) preset=${rest#_} ;;
    *) echo "$name: not a row of the paper's sets" >&2 && exit 2 ;;
  esac
  theirs="$out/reports/${which}_authors${rest}"
  if [ "$preset" = paper ] && [ -f "$theirs/report.json" ]; then compare=(--compare "$theirs"); fi
  echo "== $(date -u +%FT%TZ) $name: preset $preset, share $share, seed $seed"
  dgl simulate --profile "$which" --n 20000 --seed 1 --out "$out/$which"
  dgl simulate --profile "$which" --n 41000 --seed 2 --out "$out/$which-test"
  dgl train --set "$which" --preset "$preset" --data "$out/$which" --out "$out/bundles/$name" --seed "$seed" --share "$share" \
    --device "${DEVICE:-auto}" --threads "${THREADS:-2}"
  dgl evaluate "$out/bundles/$name" --data "$out/$which-test" --out "$out/reports/$name" --result "$out/results/$name.json" \
    --device "${DEVICE:-auto}" --threads "${THREADS:-2}" "${compare[@]}"
done

#!/usr/bin/env bash
# Wheels into a folder (dist/ by default): one for this platform with the compiled decoder, one in pure Python for all others.
# On Linux the first is named by the oldest glibc that it runs on, and nothing outside it is needed. `tox run -e wheels`.
# Other platforms (macOS, Windows, other processors): the same on such a machine, which needs cargo 1.85 and Python 3.11.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
out="${1:-$here/dist}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
# From a copy, so that what an earlier build left in build/ gets into neither. -c: the last commit, not what lies about.
git -C "$here" archive HEAD | tar -x -C "$work"
for decoder in python native; do
  rm -rf "$work/build" "$work/dgl_broker.egg-info"
  DGL_DECODER=$decoder CARGO_TARGET_DIR="$here/native/target" python -m pip wheel -q --no-deps -w "$work/wheel-$decoder" "$work"
done
cp "$work"/wheel-python/*.whl "$out"
case "$(uname -s)" in
  Linux) auditwheel repair --wheel-dir "$out" "$work"/wheel-native/*.whl ;;
  *) cp "$work"/wheel-native/*.whl "$out" ;;
esac
ls -1 "$out"

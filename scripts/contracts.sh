#!/usr/bin/env bash
# The gates of the contracts: lint, no breaking change against the last release, our own rules and the error table.
# Reports all that is wrong, not the first only.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
scripts/proto_deps.sh
bad=0
buf lint || bad=1
image=$(mktemp --suffix=.binpb)
trap 'rm -f "$image"' EXIT
if scripts/image.sh "$image"; then
  # Image against image: a workspace of two modules cannot be compared with one image.
  if [ -f proto/release.binpb ]; then
    buf breaking "$image" --against proto/release.binpb --exclude-imports || bad=1
  fi
  python -m scripts.contract_rules "$image" || bad=1
else
  bad=1
fi
python -m scripts.release_version || bad=1
exit $bad

#!/usr/bin/env bash
# The gates of the contracts: lint, no breaking change against the last release, our own rules and the error table.
# Reports all that is wrong, not the first only.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
scripts/proto_deps.sh
bad=0
buf lint || bad=1
if [ -f proto/release.binpb ]; then
  buf breaking --against proto/release.binpb || bad=1
fi
python -m scripts.release_version || bad=1
image=$(mktemp --suffix=.binpb)
trap 'rm -f "$image"' EXIT
if buf build -o "$image"; then
  python -m scripts.contract_rules "$image" || bad=1
else
  bad=1
fi
exit $bad

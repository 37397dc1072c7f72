#!/usr/bin/env bash
# Freezes the contracts: bumps the version and writes proto/release.binpb, the image that `buf breaking` compares with.
# Usage: scripts/release.sh x.y.z      The only thing that writes that image; commit all it changed as one commit.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
version=${1:-}
[[ $version =~ ^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$ ]] || { echo "usage: make release VERSION=x.y.z"; exit 2; }
scripts/contracts.sh
scripts/drift.sh
python -m scripts.release_version "$version"
scripts/image.sh proto/release.binpb --exclude-source-info
echo "release: contracts frozen as $version (proto/release.binpb, pyproject.toml, mesh/settings.py)"

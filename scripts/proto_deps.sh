#!/usr/bin/env bash
# Google's published API definitions, which our contracts import, come from the installed package and not from a copy in
# the repository. Puts them into build/proto_deps.
set -euo pipefail
cd "$(dirname "$0")/.."
site=$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')
mkdir -p build/proto_deps/google/api build/proto_deps/google/rpc
for f in google/api/annotations.proto google/api/http.proto google/api/httpbody.proto google/rpc/status.proto google/rpc/error_details.proto; do
  cmp -s "$site/$f" "build/proto_deps/$f" || cp "$site/$f" "build/proto_deps/$f"
done

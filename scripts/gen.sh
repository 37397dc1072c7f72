#!/usr/bin/env bash
# Generates gen/ from proto/. Output is a function of proto/ and the locked tools alone.
set -euo pipefail
cd "$(dirname "$0")/.."
final=${1:-gen}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
py=.venv/bin/python

deps=build/proto_deps
scripts/proto_deps.sh

mapfile -t protos < <(cd proto && find voice -name '*.proto' | LC_ALL=C sort)
mkdir -p "$out/python" "$out/betterproto"
export PATH="$PWD/.venv/bin:$PATH"
$py -m grpc_tools.protoc -Iproto -I$deps --python_out="$out/python" --grpc_python_out="$out/python" \
  --mypy_out=quiet:"$out/python" --mypy_grpc_out=quiet:"$out/python" "${protos[@]}"
if [ -d mesh/etcd_api ]; then
  $py -m grpc_tools.protoc -Imesh/etcd_api --python_out="$out/python" --grpc_python_out="$out/python" \
    --mypy_out=quiet:"$out/python" --mypy_grpc_out=quiet:"$out/python" $(cd mesh/etcd_api && find . -name '*.proto' | sed 's|^\./||' | LC_ALL=C sort)
fi
$py -m grpc_tools.protoc -Iproto -I$deps --python_betterproto2_out="$out/betterproto" "${protos[@]}" 2> /dev/null
$py -m grpc_tools.protoc -Iproto -I$deps --include_imports --include_source_info \
  --descriptor_set_out="$out/voicemesh.binpb" "${protos[@]}" google/rpc/status.proto google/rpc/error_details.proto
find "$out/python" -type d -exec touch {}/__init__.py \;

# Only what differs is touched, so that running processes keep their modules and make its stamps.
$py - "$out" "$final" <<'PY'
import filecmp, pathlib, shutil, sys

new, old = map(pathlib.Path, sys.argv[1:])
for file in [f for f in new.rglob("*") if f.is_file()]:
    target = old / file.relative_to(new)
    if not target.exists() or not filecmp.cmp(file, target, shallow=False):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
for sub in ("python", "betterproto"):
    for file in [f for f in (old / sub).rglob("*") if f.is_file() and f.suffix != ".pyc"]:
        if not (new / file.relative_to(old)).exists():
            file.unlink()
PY

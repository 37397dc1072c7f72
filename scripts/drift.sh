#!/usr/bin/env bash
# gen/ is what proto/ and the locked tools give, and nothing else: generates again elsewhere and compares.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/gen.sh "$fresh" > "$fresh/log" 2>&1 || { cat "$fresh/log"; exit 1; }
rm "$fresh/log"
if ! diff -rq -x __pycache__ "$fresh" gen > "$fresh.diff"; then
  sed "s|$fresh|generated|g" "$fresh.diff"
  rm -f "$fresh.diff"
  echo "check-gen: gen/ is not what proto/ gives; run 'make gen' and commit it with the contracts"
  exit 1
fi
rm -f "$fresh.diff"

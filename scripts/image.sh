#!/usr/bin/env bash
# Builds the image of our contracts, what they import marked as imports. Usage: scripts/image.sh file.binpb [buf build options]
set -euo pipefail
exec buf build --path proto/voice -o "$@"

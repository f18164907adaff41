#!/usr/bin/env bash
# Resident memory of Pli: one upload of 1 GB, one of 20 GB, a hundred at once. Needs 25 GB of disk.
#   tests/bench/memory.sh [--small 1G] [--large 20G] [--count 100] [--each 48M]
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "${BASH_SOURCE[0]}")/memory.py" "$@"

#!/usr/bin/env bash
# Upload and download of one large file: Pli beside @tus/server and nginx, over TLS, in one run.
#   tests/bench/transfer.sh [--size 2G] [--rounds 5] [--cases memory,disk,download] [--without pli]
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$(dirname "${BASH_SOURCE[0]}")/transfer.py" "$@"

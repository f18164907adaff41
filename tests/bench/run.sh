#!/usr/bin/env bash
# Every benchmark, with release binaries: sealing, the journal, transfers, memory, small documents. Exits with 1 when a
# goal is missed. BENCH_QUICK=1 takes smaller files and fewer rounds.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo build --release --locked -p pli -p pli-tests --bin pli --bin bench-client
missed=0
quick() { [[ -n ${BENCH_QUICK:-} ]]; }
cargo bench --locked -p pli-seal || missed=1
cargo bench --locked -p pli-journal || missed=1
if quick; then
  tests/bench/transfer.sh --size 512M --rounds 3 || missed=1
  tests/bench/memory.sh --small 256M --large 2G --count 50 --each 24M || missed=1
else
  tests/bench/transfer.sh || missed=1
  tests/bench/memory.sh || missed=1
fi
if [[ -x ${PLI_CACHE:-$HOME/.cache/pli}/tools/bin/garage ]]; then
  tests/bench/small.sh || missed=1
else
  echo "Garage is not built (make test-garage): measuring with s3s-fs"
  PLI_BENCH_S3=s3 tests/bench/small.sh || missed=1
fi
exit "$missed"

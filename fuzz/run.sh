#!/usr/bin/env bash
# Runs every fuzz target for some seconds each: fuzz/run.sh [SECONDS]. Findings stay in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
cache=${PLI_CACHE:-$HOME/.cache/pli}
# cargo-fuzz asks for options of the nightly compiler; this lets the stable one take them.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$cache/fuzz-target
cargo fuzz build
for target in $(cargo fuzz list); do
    echo "== $target, $seconds s"
    # With a corpus outside the clone, each run begins where the last one ended.
    corpus=$cache/fuzz-corpus/$target
    mkdir -p "$corpus"
    cargo fuzz run "$target" "$corpus" -- -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=0 -verbosity=0
done
echo "$(cargo fuzz list | wc -l) passed, 0 failed"

#!/usr/bin/env bash
# A thousand documents of 10 kB on SQLite with a folder, then on PostgreSQL with Garage (PLI_BENCH_S3=s3 for
# s3s-fs, which needs no build of half an hour).
#   tests/bench/small.sh [--count 1000] [--workers 1,8,32] [--backends embedded,services]
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case " $* " in
  *" --backends embedded "*) exec python3 "$here/small.py" "$@" ;;
esac
exec "$here/../env/with.sh" postgres "${PLI_BENCH_S3:-garage1}" -- python3 "$here/small.py" "$@"

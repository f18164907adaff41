#!/usr/bin/env bash
# Runs a command with real services, and stops them whatever happens:
#
#     tests/env/with.sh postgres s3 -- cargo nextest run
#
# Services: postgres (PLI_TEST_POSTGRES), s3, garage1, garage3 (each PLI_TEST_S3_*), clamd (PLI_TEST_CLAMD), smtp
# (PLI_TEST_SMTP_*). Everything lies in one temporary folder, which is removed at the end; PLI_TEST_KEEP=1 keeps it,
# for its logs.
source "$(dirname "$0")/common.sh"

services=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do services+=("$1"); shift; done
[ $# -gt 1 ] || die "usage: $0 SERVICE… -- COMMAND…"
shift

base=$(mktemp -d "${TMPDIR:-/tmp}/pli-test.XXXXXX")
# The user postgres must be able to pass through.
chmod 711 "$base"

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    for service in "${services[@]}"; do
        case $service in
        # Nothing of it is kept: no need to write it out first.
        postgres) "$here/postgres.sh" stop "$base/postgres" immediate || true ;;
        s3) "$here/s3.sh" stop "$base/s3" || true ;;
        garage1 | garage3) "$here/garage.sh" stop "$base/garage" || true ;;
        clamd) "$here/clamd.sh" stop "$base/clamd" || true ;;
        smtp) "$here/smtp.sh" stop "$base/smtp" || true ;;
        esac
    done
    if [ -n "${PLI_TEST_KEEP:-}" ]; then say "kept: $base"; else rm -rf "$base"; fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

for service in "${services[@]}"; do
    case $service in
    postgres)
        PLI_TEST_POSTGRES=$("$here/postgres.sh" start "$base/postgres")
        export PLI_TEST_POSTGRES
        ;;
    s3) variables=$("$here/s3.sh" start "$base/s3") && eval "$variables" ;;
    garage1) variables=$("$here/garage.sh" one "$base/garage") && eval "$variables" ;;
    garage3) variables=$("$here/garage.sh" three "$base/garage") && eval "$variables" ;;
    clamd) variables=$("$here/clamd.sh" start "$base/clamd") && eval "$variables" ;;
    smtp) variables=$("$here/smtp.sh" start "$base/smtp") && eval "$variables" ;;
    *) die "unknown service $service: postgres, s3, garage1, garage3, clamd or smtp" ;;
    esac
done

# In the background and waited for, so that a signal is seen at once.
"$@" <&0 &
command=$!
trap 'kill -INT "$command" 2>/dev/null; exit 130' INT
trap 'kill -TERM "$command" 2>/dev/null; exit 143' TERM
wait "$command"

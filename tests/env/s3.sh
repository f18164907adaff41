#!/usr/bin/env bash
# An S3 server for tests, over a folder (s3s-fs): `s3.sh start|stop|env DIR`.
#
# start DIR   starts it with a bucket `pli` under DIR/objects; prints what `env` prints.
# stop DIR    stops it.
# env DIR     prints the variables PLI_TEST_S3_* for a shell.
source "$(dirname "$0")/common.sh"

[ $# = 2 ] || die "usage: $0 start|stop|env DIR"
mkdir -p "$2"
dir=$(cd "$2" && pwd)

print_env() {
    [ -f "$dir/port" ] || die "nothing was started in $dir"
    cat <<END
export PLI_TEST_S3_ENDPOINT=http://127.0.0.1:$(cat "$dir/port")
export PLI_TEST_S3_REGION=garage
export PLI_TEST_S3_BUCKET=pli
export PLI_TEST_S3_ACCESS_KEY=PLITESTACCESS
export PLI_TEST_S3_SECRET_KEY=$(cat "$dir/secret")
END
}

case $1 in
start)
    [ -x "$tools/bin/s3s-fs" ] || die "s3s-fs is not installed: run $here/install.sh"
    if ! alive "$dir/pid"; then
        mkdir -p "$dir/objects/pli"
        [ -f "$dir/secret" ] || head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/secret"
        for _ in 1 2 3 4 5; do
            [ -f "$dir/port" ] || free_port >"$dir/port"
            RUST_LOG=warn background "$dir/pid" "$dir/log" "$tools/bin/s3s-fs" --host 127.0.0.1 \
                --port "$(cat "$dir/port")" --access-key PLITESTACCESS --secret-key "$(cat "$dir/secret")" "$dir/objects"
            if wait_for s3s-fs "$dir/pid" answers "$(cat "$dir/port")"; then started=1; break; fi
            rm -f "$dir/port"
        done
        [ -n "${started:-}" ] || { cat "$dir/log" >&2; die "s3s-fs did not start"; }
    fi
    print_env
    ;;
stop) end TERM "$dir/pid" ;;
env) print_env ;;
*) die "usage: $0 start|stop|env DIR" ;;
esac

#!/usr/bin/env bash
# Garage, an S3 service for several machines, for tests: `garage.sh build | one|three|env|stop DIR | kill|revive N DIR | bucket NAME SIZE DIR`.
#
# build          builds Garage 2.5.0 into the cache, once (about half an hour of one core).
# one DIR        starts one node with a bucket `pli`; prints what `env` prints.
# three DIR      starts three nodes, every object on each; prints what `env` prints.
# env DIR        prints the variables PLI_TEST_S3_* for a shell; requests go to node 1.
# kill N DIR     kills node N with SIGKILL.
# revive N DIR   starts it again, and waits until it and node 1 see all three.
# bucket NAME SIZE DIR   makes another bucket, which takes at most SIZE (10KiB, 1GiB…).
# stop DIR       stops every node.
#
# Garage is AGPL: it runs as a process of its own, and nothing of it becomes part of Pli.
source "$(dirname "$0")/common.sh"

version=2.5.0
garage=$tools/bin/garage
access=GK0123456789abcdef01234567

need() { [ -x "$garage" ] || die "Garage is not built: run $here/garage.sh build"; }

configure() {
    local dir=$1 n=$2 copies=$3 node=$1/node$2
    mkdir -p "$node/meta" "$node/data"
    for port in rpc s3 admin; do [ -f "$node/$port" ] || free_port >"$node/$port"; done
    (umask 077; cat >"$node/garage.toml" <<END
metadata_dir = "$node/meta"
data_dir = "$node/data"
db_engine = "sqlite"
replication_factor = $copies
rpc_bind_addr = "127.0.0.1:$(cat "$node/rpc")"
rpc_public_addr = "127.0.0.1:$(cat "$node/rpc")"
rpc_secret = "$(cat "$dir/rpc_secret")"

[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$(cat "$node/s3")"

[admin]
api_bind_addr = "127.0.0.1:$(cat "$node/admin")"
END
    )
}

run_node() {
    local dir=$1 n=$2 node=$1/node$2
    shift 2
    alive "$node/pid" && return
    RUST_LOG=garage=warn background "$node/pid" "$node/log" "$garage" -c "$node/garage.toml" server "$@"
    wait_for "Garage node $n" "$node/pid" answers "$(cat "$node/s3")" || { cat "$node/log" >&2; die "Garage did not start"; }
}

ask() { local dir=$1 n=$2; shift 2; "$garage" -c "$dir/node$n/garage.toml" "$@"; }

sees_all() { ask "$1" "$2" json-api GetClusterHealth 2>/dev/null | grep -q '"connectedNodes": 3,'; }

secrets() {
    for name in rpc_secret secret; do
        [ -f "$1/$name" ] || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$1/$name"
    done
}

print_env() {
    cat <<END
export PLI_TEST_S3_ENDPOINT=http://127.0.0.1:$(cat "$1/node1/s3")
export PLI_TEST_S3_REGION=garage
export PLI_TEST_S3_BUCKET=pli
export PLI_TEST_S3_ACCESS_KEY=$access
export PLI_TEST_S3_SECRET_KEY=$(cat "$1/secret")
export PLI_TEST_GARAGE=$1
END
}

action=${1:-}
case $action in
build)
    if ! "$garage" --version 2>/dev/null | grep -q "v$version"; then
        mkdir -p "$cache/build/garage"
        CARGO_TARGET_DIR=$cache/build/garage nice -n 19 \
            cargo install garage --version $version --locked --root "$tools" ${PLI_BUILD_JOBS:+-j"$PLI_BUILD_JOBS"}
        rm -rf "$cache/build/garage"
    fi
    ;;
one | three | env | stop)
    [ $# = 2 ] || die "usage: $0 $action DIR"
    mkdir -p "$2"
    dir=$(cd "$2" && pwd)
    ;;
kill | revive)
    [ $# = 3 ] || die "usage: $0 $action N DIR"
    dir=$(cd "$3" && pwd)
    ;;
bucket)
    [ $# = 4 ] || die "usage: $0 bucket NAME SIZE DIR"
    dir=$(cd "$4" && pwd)
    ;;
*) die "usage: $0 build | one|three|env|stop DIR | kill|revive N DIR | bucket NAME SIZE DIR" ;;
esac

case $action in
one)
    need
    secrets "$dir"
    configure "$dir" 1 1
    GARAGE_DEFAULT_ACCESS_KEY=$access GARAGE_DEFAULT_SECRET_KEY=$(cat "$dir/secret") GARAGE_DEFAULT_BUCKET=pli \
        run_node "$dir" 1 --single-node --default-bucket
    wait_for "the bucket" "$dir/node1/pid" ask "$dir" 1 bucket info pli
    print_env "$dir"
    ;;
three)
    need
    secrets "$dir"
    fresh=
    [ -d "$dir/node1" ] || fresh=1
    for n in 1 2 3; do configure "$dir" $n 3; run_node "$dir" $n; done
    if [ -n "$fresh" ]; then
        {
            for n in 2 3; do ask "$dir" 1 node connect "$(ask "$dir" $n node id -q)"; done
            for n in 1 2 3; do
                id=$(ask "$dir" $n node id -q)
                ask "$dir" 1 layout assign -z "z$n" -c 20G "${id%%@*}"
            done
            ask "$dir" 1 layout apply --version 1
            wait_for "the layout" "$dir/node1/pid" ask "$dir" 1 key import --yes -n pli "$access" "$(cat "$dir/secret")"
            ask "$dir" 1 bucket create pli
            ask "$dir" 1 bucket allow --read --write pli --key "$access"
        } >"$dir/setup.log" 2>&1 || { cat "$dir/setup.log" >&2; die "Garage could not be set up"; }
    fi
    print_env "$dir"
    ;;
env) print_env "$dir" ;;
kill) end KILL "$dir/node$2/pid" ;;
revive)
    run_node "$dir" "$2"
    for n in "$2" 1; do wait_for "a connection to all nodes" "$dir/node$n/pid" sees_all "$dir" "$n"; done
    ;;
bucket)
    ask "$dir" 1 bucket create "$2" >/dev/null
    ask "$dir" 1 bucket allow --read --write "$2" --key "$access" >/dev/null
    ask "$dir" 1 bucket set-quotas --max-size "$3" "$2" >/dev/null
    ;;
stop) for node in "$dir"/node*; do end TERM "$node/pid"; done ;;
esac

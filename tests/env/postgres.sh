#!/usr/bin/env bash
# An ephemeral PostgreSQL for tests: `postgres.sh start|stop|url DIR`.
#
# start DIR          makes a cluster in DIR when there is none, starts it, prints its address.
# stop DIR [MODE]    stops it (MODE: fast, the default, or immediate, as a crash).
# url DIR            prints the address: a superuser without password, on this machine only.
#
# It syncs nothing to the disk and is of no use but for tests. A cluster that the system runs is left
# alone. As root it runs as the user `postgres`, because PostgreSQL refuses root.
source "$(dirname "$0")/common.sh"

bin() {
    local found
    found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
    [ -x "$found/initdb" ] || found=$(dirname "$(command -v initdb || true)")
    [ -x "$found/initdb" ] || die "PostgreSQL is not installed: run $here/install.sh"
    echo "$found"
}

as_owner() {
    if [ "$(id -u)" = 0 ]; then
        # The present folder may not be open to the other user.
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

[ $# -ge 2 ] || die "usage: $0 start|stop|url DIR"
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)

case $action in
start)
    pg=$(bin)
    if [ "$(id -u)" = 0 ]; then
        chown postgres "$dir"
        as_owner test -x "$dir" || die "the user postgres cannot reach $dir: open its parent folders (chmod o+x)"
    fi
    if [ ! -f "$dir/data/PG_VERSION" ]; then
        as_owner "$pg/initdb" -D "$dir/data" -U pli --auth=trust --no-sync -E UTF8 --locale=C.UTF-8 >"$dir/initdb.log" 2>&1 \
            || { cat "$dir/initdb.log" >&2; die "initdb failed"; }
    fi
    if ! as_owner "$pg/pg_ctl" -D "$dir/data" status >/dev/null 2>&1; then
        for _ in 1 2 3 4 5; do
            # A cluster that comes back keeps its port.
            [ -f "$dir/port" ] || free_port >"$dir/port"
            if as_owner "$pg/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/data/server.log" \
                -o "-p $(cat "$dir/port") -c listen_addresses=127.0.0.1 -c unix_socket_directories='' \
                    -c fsync=off -c max_connections=300 -c log_min_messages=warning" start >"$dir/start.log" 2>&1; then
                started=1
                break
            fi
            grep -q 'Address already in use' "$dir/data/server.log" && rm -f "$dir/port" && : >"$dir/data/server.log"
        done
        [ -n "${started:-}" ] || { cat "$dir/start.log" "$dir/data/server.log" >&2; die "PostgreSQL did not start"; }
    fi
    echo "postgres://pli@127.0.0.1:$(cat "$dir/port")/postgres"
    ;;
stop)
    if [ -f "$dir/data/PG_VERSION" ]; then
        pg=$(bin)
        as_owner "$pg/pg_ctl" -D "$dir/data" -w -m "${3:-fast}" stop >/dev/null 2>&1 || true
    fi
    ;;
url)
    [ -f "$dir/port" ] || die "nothing was started in $dir"
    echo "postgres://pli@127.0.0.1:$(cat "$dir/port")/postgres"
    ;;
*)
    die "usage: $0 start|stop|url DIR"
    ;;
esac

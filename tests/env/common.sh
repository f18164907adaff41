# Sourced by the scripts beside it. Starts nothing by itself.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PLI_CACHE:-$HOME/.cache/pli}
tools=$cache/tools

say() { printf '%s\n' "$*" >&2; }
die() { say "$0: $*"; exit 1; }

# A port of this machine on which nothing answers, below those the system gives to clients.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % 22000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "no free port"
}

# wait_for WHAT PID-FILE COMMAND… : until the command succeeds; fails when the process is gone.
wait_for() {
    local what=$1 pid_file=$2
    shift 2
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        alive "$pid_file" || return 1
        sleep 0.05
    done
    die "$what did not answer within 30 seconds"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Neither gone nor a zombie that nobody has waited for.
running() { [ -r "/proc/$1/stat" ] && [ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" != Z ]; }

alive() { [ -f "$1" ] && running "$(cat "$1")"; }

# Starts a program in the background, in a session of its own, with its output in a log.
background() {
    local pid_file=$1 log=$2
    shift 2
    setsid "$@" </dev/null >>"$log" 2>&1 &
    echo $! >"$pid_file"
}

# end SIGNAL PID-FILE : and waits until the process is gone.
end() {
    local signal=$1 pid_file=$2 pid
    [ -f "$pid_file" ] || return 0
    pid=$(cat "$pid_file")
    kill "-$signal" "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
        running "$pid" || break
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm -f "$pid_file"
}

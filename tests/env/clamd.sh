#!/usr/bin/env bash
# A ClamAV daemon for tests, with signatures of its own: `clamd.sh start|stop|kill|freeze|thaw|env DIR`.
#
# start DIR    starts it on a socket of this machine; prints what `env` prints.
# stop DIR     stops it.
# kill DIR     kills it with SIGKILL, as a crash.
# freeze DIR   stops its processes in their tracks (SIGSTOP); thaw DIR lets them go on.
# env DIR      prints the variables PLI_TEST_CLAMD*.
#
# Nothing is downloaded: its signatures are the EICAR test file, whole (.hdb) and anywhere (.ndb). The
# test string is put together here, so that no file of this repository holds it. Limits are small:
# a stream of 4 MiB, a file of 2 MiB, 8 MiB in all, archives 6 deep, 50 files.
source "$(dirname "$0")/common.sh"

[ $# = 2 ] || die "usage: $0 start|stop|kill|freeze|thaw|env DIR"
mkdir -p "$2"
dir=$(cd "$2" && pwd)

configure() {
    mkdir -p "$dir/signatures" "$dir/unpacked"
    local eicar
    eicar='X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR'
    eicar+='-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*'
    printf '%s:68:Pli.Test.EICAR.Whole\n' "$(printf '%s' "$eicar" | md5sum | cut -d' ' -f1)" >"$dir/signatures/pli.hdb"
    printf 'Pli.Test.EICAR:0:*:%s\n' "$(printf '%s' "$eicar" | od -An -tx1 | tr -d ' \n')" >"$dir/signatures/pli.ndb"
    cat >"$dir/clamd.conf" <<END
TCPSocket $(cat "$dir/port")
TCPAddr 127.0.0.1
LocalSocket $dir/clamd.sock
DatabaseDirectory $dir/signatures
TemporaryDirectory $dir/unpacked
LogFile $dir/clamd.log
Foreground yes
MaxThreads 8
MaxQueue 20
SelfCheck 0
StreamMaxLength 4M
MaxFileSize 3M
MaxScanSize 3M
MaxRecursion 6
MaxFiles 50
ReadTimeout 30
AlertExceedsMax ${PLI_TEST_CLAMD_ALERTS:-yes}
AlertEncrypted ${PLI_TEST_CLAMD_ALERTS:-yes}
END
}

print_env() {
    [ -f "$dir/port" ] || die "nothing was started in $dir"
    cat <<END
export PLI_TEST_CLAMD=127.0.0.1:$(cat "$dir/port")
export PLI_TEST_CLAMD_SOCKET=$dir/clamd.sock
export PLI_TEST_CLAMD_DIR=$dir
END
}

signal() { kill "-$1" "$(cat "$dir/pid")"; }

case $1 in
start)
    command -v clamd >/dev/null || die "clamd is not installed: run $here/install.sh"
    if ! alive "$dir/pid"; then
        rm -f "$dir/clamd.sock"
        for _ in 1 2 3 4 5; do
            [ -f "$dir/port" ] || free_port >"$dir/port"
            configure
            background "$dir/pid" "$dir/log" clamd --config-file="$dir/clamd.conf"
            if wait_for clamd "$dir/pid" answers "$(cat "$dir/port")"; then started=1; break; fi
            rm -f "$dir/port"
        done
        [ -n "${started:-}" ] || { cat "$dir/log" >&2; die "clamd did not start"; }
    fi
    print_env
    ;;
stop) end TERM "$dir/pid" ;;
kill) end KILL "$dir/pid" ;;
freeze) signal STOP ;;
thaw) signal CONT ;;
env) print_env ;;
*) die "usage: $0 start|stop|kill|freeze|thaw|env DIR" ;;
esac

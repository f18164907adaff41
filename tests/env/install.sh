#!/usr/bin/env bash
# Installs what building and testing Pli needs and what is missing of it: `install.sh [lint|fuzz|bench]`.
#
# Debian packages come from apt (as root, or through sudo). Tools written in Rust are built once into
# the cache, $PLI_CACHE (by default ~/.cache/pli), from pinned versions. Does nothing, at once, when
# everything is there.
source "$(dirname "$0")/common.sh"

export PATH=$tools/bin:$PATH
packages=()

# package NAME COMMAND… : wanted unless the command succeeds.
package() {
    local name=$1
    shift
    "$@" >/dev/null 2>&1 || packages+=("$name")
}

# Not libclang-cpp, which bindgen cannot use and which comes with other packages.
has_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang[.-][0-9s]*' || ldconfig -p | grep -E 'libclang(-[0-9.]+)?\.so'; }
has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' || command -v initdb; }

# To build: C compilers for aws-lc and SQLite, OpenSSL and libclang for Sequoia.
package gcc command -v gcc
package g++ command -v g++
package make command -v make
package pkg-config command -v pkg-config
package libssl-dev pkg-config --exists openssl
package libclang-dev has_libclang
# To test: the databases, the order of system calls, the clients in Node and Python, judges of PDF files.
package postgresql has_postgres
package sqlite3 command -v sqlite3
package strace command -v strace
package util-linux command -v setsid
package nodejs command -v node
package npm command -v npm
package curl command -v curl
package openssl command -v openssl
package poppler-utils command -v pdfsig
package qpdf command -v qpdf
package python3-venv python3 -c 'import ensurepip, venv'
if [ "${1:-}" = bench ]; then
    package nginx-light command -v nginx
    package libnginx-mod-http-dav-ext compgen -G '/usr/lib/nginx/modules/ngx_http_dav_ext_module.so'
fi

if [ ${#packages[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get: ${packages[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "run as root: apt-get install ${packages[*]}"
        as_root=(sudo)
    fi
    say "installing ${packages[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
fi

command -v cargo >/dev/null || die "Rust 1.95 or later is needed: https://rustup.rs"
minor=$(rustc --version | sed 's/^rustc 1\.\([0-9]*\).*/\1/')
[ "$minor" -ge 95 ] || die "Rust 1.95 or later is needed, this is $(rustc --version): rustup update stable"

# tool COMMAND CRATE VERSION [OPTION…] : built into the cache when absent.
tool() {
    local command=$1 crate=$2 version=$3
    shift 3
    [ -x "$tools/bin/$command" ] && return
    # One that the machine has is good enough, but for servers, whose behaviour tests rely on.
    [ "$command" != s3s-fs ] && command -v "$command" >/dev/null && return
    say "building $crate $version into $tools (once)"
    mkdir -p "$cache/build/$crate"
    CARGO_TARGET_DIR=$cache/build/$crate cargo install "$crate" --version "$version" --locked --quiet --root "$tools" "$@" >&2
    rm -rf "$cache/build/$crate"
}

# Two runs at once build one after the other.
mkdir -p "$cache"
exec 9>"$cache/tools.lock"
flock 9

tool cargo-nextest cargo-nextest 0.9.151 --no-default-features --features default-no-update
tool s3s-fs s3s-fs 0.14.1 --features binary
case ${1:-} in
lint)
    rustup component list --installed 2>/dev/null | grep -q clippy || rustup component add clippy rustfmt >&2
    tool cargo-deny cargo-deny 0.20.2
    ;;
fuzz) tool cargo-fuzz cargo-fuzz 0.13.2 ;;
'' | bench) ;;
*) die "usage: $0 [lint|fuzz|bench]" ;;
esac

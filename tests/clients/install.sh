#!/usr/bin/env bash
# Installs the client libraries that Pli is tested with, once, into a cache outside the checkout.
#
#   tests/clients/install.sh            prints the folder that holds node_modules/ and python/
#   eval "$(tests/clients/install.sh --env)"   sets PLI_CLIENTS, PLI_NODE, PLI_PYTHON
#
# The folder is keyed by the hash of the lock files, so that a changed lock gets a new folder and two
# checkouts share one. The scripts run from a copy beside node_modules, because Node finds packages
# of an ES module by looking upwards from the module, and from nowhere else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PLI_CACHE:-$HOME/.cache/pli}
key=$(cat "$here/package-lock.json" "$here/requirements.txt" | sha256sum | cut -c1-16)
home=$cache/clients-$key

mkdir -p "$cache"
exec 9>"$cache/clients.lock"
flock 9

if [[ ! -e $home/complete ]]; then
  rm -rf "$home"
  mkdir -p "$home"
  cp "$here/package.json" "$here/package-lock.json" "$here/requirements.txt" "$home/"
  # No install script runs: none of these packages needs one.
  (cd "$home" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2
  python3 -m venv "$home/python" >&2
  "$home/python/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$home/requirements.txt" >&2
  touch "$home/complete"
fi
for script in "$here"/*.mjs "$here"/*.py; do
  if [[ -e $script ]]; then
    cmp -s "$script" "$home/${script##*/}" || install -m 0644 "$script" "$home/"
  fi
done

if [[ ${1:-} == --env ]]; then
  printf 'export PLI_CLIENTS=%q PLI_NODE=%q PLI_PYTHON=%q\n' "$home" "$(command -v node)" "$home/python/bin/python"
else
  echo "$home"
fi

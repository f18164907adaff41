#!/usr/bin/env bash
# Checks with other people's programs that the generated procedure is made of real PDF files: qpdf reads
# the structure of every one, pdfinfo its information, pdftoppm draws the first page, pdftotext finds text
# where there is text and none where the page is a scan.
#
#   tests/generate/check.sh [FOLDER]     FOLDER: a procedure already generated; by default one is made
#
# Debian: qpdf poppler-utils
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
folder=${1:-}
if [[ -z $folder ]]; then
  folder=$scratch/procedure
  cargo run --quiet -p pli-tests --bin generate-procedure -- folder "$folder" --large 64M --canary "CANARI-$RANDOM"
fi

check_one() {
  qpdf --check --no-warn "$1" >/dev/null 2>&1 || { echo "qpdf refuses $1"; return 1; }
  pages=$(pdfinfo "$1" 2>&1 | awk '/^Pages:/ { print $2 }')
  [[ ${pages:-0} -ge 1 ]] || { echo "pdfinfo finds no page in $1"; return 1; }
  [[ -z $(pdftoppm -r 20 -l 1 -gray "$1" "$2/page-$BASHPID" 2>&1) ]] || { echo "pdftoppm complains of $1"; return 1; }
  rm -f "$2/page-$BASHPID"*
  words=$(pdftotext "$1" - 2>/dev/null | wc -w)
  case $1 in
    *numérisée*) [[ $words -eq 0 ]] || { echo "text in a scan: $1"; return 1; } ;;
    *) [[ $words -gt 50 ]] || { echo "hardly any text: $1"; return 1; } ;;
  esac
  echo ok
}
export -f check_one
find "$folder" -name '*.pdf' -print0 |
  xargs -0 -n1 -P"$(nproc)" bash -c 'check_one "$1" "$0"' "$scratch" > "$scratch/said" || true
passed=$(grep -c '^ok$' "$scratch/said" || true)
failed=$(grep -vc '^ok$' "$scratch/said" || true)
grep -v '^ok$' "$scratch/said" || true
echo "$passed passed, $failed failed"
[[ $failed -eq 0 && $passed -gt 0 ]]

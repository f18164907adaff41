#!/usr/bin/env bash
# The demonstration: a procedure goes from an office to an expert through a server that is killed on the way.
# Everything lies in one folder, $PLI_DEMO, made anew each time. Called by `make demo`.
#
# PLI_DEMO_LARGE sets the size of the large file (default 2463219137 bytes), PLI_DEMO_PORT the port.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=${PLI_CACHE:-$HOME/.cache/pli}
demo=${PLI_DEMO:-$cache/demo}
large=${PLI_DEMO_LARGE:-2463219137}
port=${PLI_DEMO_PORT:-8443}
target=${CARGO_TARGET_DIR:-target}

say() { printf '\n== %s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

say "Construction"
cargo build --locked --workspace
pli=$(realpath "$target/debug/pli")
generate=$(realpath "$target/debug/generate-procedure")

# A server left by an earlier run.
if [ -f "$demo/pid" ] && kill -0 "$(cat "$demo/pid")" 2>/dev/null; then
    kill "$(cat "$demo/pid")"
    while kill -0 "$(cat "$demo/pid")" 2>/dev/null; do sleep 0.1; done
fi
rm -rf "$demo"
mkdir -p "$demo/people"
chmod 700 "$demo"
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    die "le port $port est pris ; PLI_DEMO_PORT=… en choisit un autre"
fi

say "Une machine : configuration, clé OpenPGP de la passerelle, certificat TLS de développement"
"$pli" init "$demo/data" --dev-pki
export PLI_CONFIG=$demo/data/pli.toml
export PLI_LISTEN__ADDRESSES="[\"127.0.0.1:$port\"]"
export PLI_OPERATIONS__ADDRESS="127.0.0.1:$((port + 1))"
export PLI_SERVER=https://localhost:$port PLI_CA=$demo/data/tls/root.pem

say "Deux organisations et deux personnes, fictives"
office="greffe.instruction@tribunal.example"
expert="camille.fictive@experts.example"
"$pli" org add --kind office "Cabinet d'instruction n° 3 (fictif)" >/dev/null
"$pli" org add --kind company "Compagnie des experts de Démonville (fictive)" >/dev/null
for person in office expert; do
    (umask 077; head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$demo/people/$person.password")
done
"$pli" user add "$office" --name "Greffe de l'instruction (démonstration)" \
    --org "Cabinet d'instruction n° 3 (fictif)" --password-file "$demo/people/office.password" >/dev/null
"$pli" user add "$expert" --name "Camille Fictive, experte (démonstration)" \
    --org "Compagnie des experts de Démonville (fictive)" --password-file "$demo/people/expert.password" >/dev/null
(umask 077
    "$pli" token add "$office" --name démonstration >"$demo/people/office.token"
    "$pli" token add "$expert" --name démonstration >"$demo/people/expert.token")
echo "$office"
echo "$expert"

started=0
start() {
    started=$((started + 1))
    setsid "$pli" serve </dev/null >>"$demo/server.log" 2>&1 &
    echo $! >"$demo/pid"
    for _ in $(seq 600); do
        curl -sf "http://$PLI_OPERATIONS__ADDRESS/readyz" >/dev/null && return
        kill -0 "$(cat "$demo/pid")" 2>/dev/null || { tail -5 "$demo/server.log" >&2; die "le serveur n'a pas démarré"; }
        sleep 0.1
    done
    die "le serveur ne répond pas"
}

say "Une procédure fictive : des centaines de PDF, dont des pages numérisées, et un scellé numérique"
canary="CANARI-$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \n')"
"$generate" folder "$demo/procédure" --large "$large" --canary "$canary"
du -sh "$demo/procédure" | cut -f1

say "Le serveur démarre ; le greffe envoie à l'experte"
start
sent=$demo/sent.json
PLI_TOKEN_FILE=$demo/people/office.token "$pli" send "$demo/procédure" --to "$expert" \
    --subject "Mission d'expertise (démonstration)" --json >"$sent" &
sender=$!

objects() { find "$demo/data/objects" -type f -path '*/segments/*' -printf '%s\n' 2>/dev/null | awk '{s+=$1} END {print s+0}'; }
half=$(($(du -sb "$demo/procédure" | cut -f1) / 2))
while [ "$(objects)" -lt "$half" ]; do
    kill -0 "$sender" 2>/dev/null || die "l'envoi s'est terminé avant d'être coupé"
    sleep 0.05
done

say "La moitié est scellée et durable : kill -9"
kill -9 "$(cat "$demo/pid")"
while kill -0 "$(cat "$demo/pid")" 2>/dev/null; do sleep 0.05; done
echo "scellé avant la coupure : $(objects) octets ; l'envoi attend"

say "Le serveur redémarre ; l'envoi reprend seul"
start
wait "$sender" || die "l'envoi a échoué"
deposit=$(tail -n 1 "$sent" | python3 -c 'import json,sys; print(json.load(sys.stdin)["deposit"])')
echo "dépôt $deposit"

say "L'experte liste et reçoit"
export PLI_TOKEN_FILE=$demo/people/expert.token
"$pli" list
"$pli" receive "$deposit" --into "$demo/reçu" >/dev/null

say "Chaque octet est le même"
sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }
received=$demo/reçu
[ -d "$received/procédure" ] && received=$received/procédure
diff <(sums "$demo/procédure") <(sums "$received") || die "les empreintes diffèrent"
echo "$(find "$received" -type f | wc -l) fichiers, empreintes égales"

say "Le texte témoin n'est nulle part en clair"
# The method must be able to find it: it is in what was sent and in what was received.
grep -rqaF "$canary" "$demo/procédure" || die "le témoin manque à l'entrée : la recherche ne prouverait rien"
grep -rqaF "$canary" "$received" || die "le témoin manque à la sortie"
if grep -rlaF "$canary" "$demo/data" "$demo/server.log"; then die "le témoin est en clair dans ces fichiers"; fi
echo "« $canary » : dans la procédure et chez l'experte ; ni dans le stockage, ni dans la base, ni dans les journaux"

say "Base et stockage s'accordent, chaque segment s'ouvre"
found=$("$pli" check --deep 2>&1) || die "des écarts ont été trouvés : $found"
grep -E 'nommés par la base|Rien à signaler' <<<"$found"
recent=$(grep -c 'récent que rien ne nomme' <<<"$found") || true
if [ "$recent" -gt 0 ]; then
    echo "$recent objets récents que rien ne nomme : interrompus par la coupure, ils n'ont jamais été promis ;"
    echo "« pli check --remove-orphans 1 » les retire quand ils ont plus d'un jour"
fi

say "Le serveur tourne"
cat <<TXT
adresse         $PLI_SERVER (certificat de développement : $PLI_CA)
greffe          $office, mot de passe dans $demo/people/office.password
experte         $expert, mot de passe dans $demo/people/expert.password

Entrer, par l'API :
  jq -n --arg a $expert --rawfile p $demo/people/expert.password '{address: \$a, password: \$p}' |
    curl --cacert $PLI_CA -c $demo/cookies -H 'content-type: application/json' -d @- $PLI_SERVER/api/v1/session
  curl --cacert $PLI_CA -b $demo/cookies $PLI_SERVER/api/v1/me

Par la ligne de commande :
  export PLI_SERVER=$PLI_SERVER PLI_CA=$PLI_CA PLI_TOKEN_FILE=$demo/people/expert.token
  $pli list
  $pli receive $deposit

Arrêter : kill \$(cat $demo/pid)
TXT

#!/usr/bin/env bash
# A mail server for tests (aiosmtpd, see smtp.py): `smtp.sh start|stop|env DIR`.
#
# start DIR   makes a CA and a certificate for localhost, starts it; prints what `env` prints.
# stop DIR    stops it.
# env DIR     prints the variables PLI_TEST_SMTP_* for a shell: the ports with STARTTLS (user and password
#             needed) and with TLS from the start, the CA, and the folder where messages arrive.
source "$(dirname "$0")/common.sh"

[ $# = 2 ] || die "usage: $0 start|stop|env DIR"
mkdir -p "$2"
dir=$(cd "$2" && pwd)

certify() {
    command -v openssl >/dev/null || die "openssl is not installed: run $here/install.sh"
    (
        cd "$dir"
        umask 077
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=Pli test CA' \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout ca-key.pem -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=localhost' -keyout key.pem -out request.pem
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions -out certificate.pem
    ) >"$dir/openssl.log" 2>&1 || { cat "$dir/openssl.log" >&2; die "the certificates could not be made"; }
}

print_env() {
    [ -f "$dir/starttls" ] || die "nothing was started in $dir"
    cat <<END
export PLI_TEST_SMTP_STARTTLS=$(cat "$dir/starttls")
export PLI_TEST_SMTP_TLS=$(cat "$dir/tls")
export PLI_TEST_SMTP_USER=pli
export PLI_TEST_SMTP_PASSWORD=$(cat "$dir/password")
export PLI_TEST_SMTP_CA=$dir/ca.pem
export PLI_TEST_SMTP_MAIL=$dir/mail
END
}

case $1 in
start)
    clients=$("$here/../clients/install.sh")
    if ! alive "$dir/pid"; then
        mkdir -p "$dir/mail"
        [ -f "$dir/certificate.pem" ] || certify
        [ -f "$dir/password" ] || head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/password"
        for _ in 1 2 3 4 5; do
            [ -f "$dir/starttls" ] || free_port >"$dir/starttls"
            [ -f "$dir/tls" ] || free_port >"$dir/tls"
            background "$dir/pid" "$dir/log" "$clients/python/bin/python" "$here/smtp.py" "$dir/mail" \
                "$dir/certificate.pem" "$dir/key.pem" "$(cat "$dir/starttls")" "$(cat "$dir/tls")" pli "$(cat "$dir/password")"
            # The one with TLS is started last.
            if wait_for "the mail server" "$dir/pid" answers "$(cat "$dir/tls")"; then started=1; break; fi
            rm -f "$dir/starttls" "$dir/tls"
        done
        [ -n "${started:-}" ] || { cat "$dir/log" >&2; die "the mail server did not start"; }
    fi
    print_env
    ;;
stop) end TERM "$dir/pid" ;;
env) print_env ;;
*) die "usage: $0 start|stop|env DIR" ;;
esac

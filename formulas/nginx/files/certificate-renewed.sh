#!/bin/sh
# certbot calls this when it has a new certificate: puts key and certificates where nginx reads them, by one rename, and
# has nginx read them if it accepts its configuration.
set -eu

app=${RENEWED_LINEAGE##*/saltern-}
file=/etc/ssl/saltern/sites/$app.pem
# The app is served no more, and the next converge removes what is renewed.
[ -e "$file" ] || exit 0

umask 077
cat "$RENEWED_LINEAGE/privkey.pem" "$RENEWED_LINEAGE/fullchain.pem" >"$file.new"
sync "$file.new"
mv "$file.new" "$file"

nginx -t -q
systemctl reload nginx
if systemctl -q is-active saltern-http3; then
    systemctl reload saltern-http3
fi

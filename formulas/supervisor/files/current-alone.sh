#!/bin/sh
# Runs before supervisor starts, so that supervisor starts the processes of each app's current release alone. A release
# that was cut off, by a power failure or a kill, may have left its own processes configured beside them. What is not as
# a release leaves it stays: a converge mends it, and until then the processes that are there serve. What a release that
# is under way has begun stays too.
cd /etc/supervisor/conf.d || exit 0
for file in *.v*.conf; do
    app=${file%.v*.conf}
    number=${file##*.v}
    number=${number%.conf}
    current=/srv/apps/$app/current
    serving=
    if [ -L "$current" ]; then
        serving=$(readlink "$current")
        serving=${serving##*/}
        { [ -d "$current" ] && [ -e "$app.v$serving.conf" ]; } || continue
        if [ "$number" = "$serving" ]; then
            # A release that was cut off may have ended processes that must be alone, to start its own in their place.
            lock=/run/saltern/$app.lock
            if grep -qs '^autostart=false$' "$file" && { [ ! -e "$lock" ] || flock --nonblock "$lock" true; }; then
                sed -i 's/^\(autostart\|autorestart\)=false$/\1=true/' "$file"
                # nginx has answered in the place of those that listen.
                rm -f "/run/saltern-away.$app."*
            fi
            continue
        fi
    else
        # There is none before the first release serves.
        { [ ! -e "$current" ] && ! grep -qs '^serving' "/srv/apps/$app/releases/$number/outcome"; } || continue
    fi
    lock=/run/saltern/$app.lock
    { [ ! -e "$lock" ] || flock --nonblock "$lock" true; } || continue
    [ -e "$file" ] || continue
    # Those that outlived supervisor end too, each with its grace.
    names=$(sed -n 's/^\[program:\(.*\)\]$/\1/p' "$file")
    # shellcheck disable=SC2086 # a list of words
    systemd-run --quiet --collect --no-block /usr/local/lib/saltern/process --end $names
    rm -f -- "$file"
    # nginx may have been switched to that release already.
    for servers in "/etc/nginx/upstreams/$app.conf" "/etc/nginx/upstreams/$app."*.conf; do
        { [ -n "$serving" ] && [ -e "$servers" ]; } || continue
        # A file for each process type that listens: shop.conf for web, shop.asgi.conf for asgi.
        kind=${servers##*/"$app".}
        kind=${kind%.conf}
        [ "${servers##*/}" != "$app.conf" ] || kind=web
        own="^command=/usr/local/lib/saltern/process $app $serving $kind\.[0-9]* \([0-9]*\)$"
        sed -n "s,$own,server 127.0.0.1:\1 max_fails=0;,p" "$app.v$serving.conf" | sort >"$servers.new"
        if [ -s "$servers.new" ] && ! cmp -s "$servers.new" "$servers"; then
            sync "$servers.new"
            mv "$servers.new" "$servers"
            # At boot nginx may just be starting.
            systemd-run --quiet --collect --no-block --property=After=nginx.service systemctl reload nginx
        fi
        rm -f "$servers.new"
    done
    echo "$app: v$number does not start, since it is not the current release; the next converge clears it away"
done

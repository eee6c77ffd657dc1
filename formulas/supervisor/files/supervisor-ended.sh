#!/bin/sh
# After supervisord's end. Where it was to stop, what is left of its processes is ended, each with its grace, also where
# supervisord had to be killed for that. Where it died, they go on, under the supervisord that systemd starts at once.
if [ "$1" != --watch ]; then
    case "$SERVICE_RESULT $(systemctl list-jobs --no-legend supervisor.service)" in
        success* | *" stop "* | *" restart "*) exec /usr/local/lib/saltern/process --end ;;
    esac
    # systemd runs nothing of a unit that is stopped while it waits for its restart.
    exec systemd-run --quiet --collect --no-block --unit=saltern-supervisor-ended "$0" --watch
fi
before=
while :; do
    state=$(systemctl is-active supervisor.service)
    case "$state $before" in
        active*) exit ;;
        "inactive inactive" | "failed failed") exec /usr/local/lib/saltern/process --end ;;
    esac
    before=$state
    sleep 0.2
done

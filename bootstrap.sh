#!/bin/sh
# Makes a bare Debian host one that Saltern can converge: Salt at the locked versions, configured.
#
#   bootstrap.sh [--id ID] [--masterless | --master | --minion-of HOST --master-key FINGERPRINT]
#
#   --masterless   the host converges from its own tree; so does one that is told nothing else
#   --master       that, and other hosts converge from its tree too: it is their Salt master
#   --minion-of    the host converges from the tree of the Salt master at that name or address, whose key has the
#                  fingerprint that bootstrap.sh told there
#
# Run it as root from the tree, at the place where the tree will stay. Run it again without options: it changes nothing.
# With a new requirements/salt.txt it installs that one and then drops the old one.
#
# Honours HTTPS_PROXY, HTTP_PROXY, NO_PROXY, PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and SSL_CERT_FILE.
set -eu
# The apps' users must be able to run what lies below /usr/local, whatever the calling shell's umask.
umask 022

die() {
    echo "bootstrap.sh: $*" >&2
    exit 1
}

say() {
    echo "bootstrap.sh: $*"
}

usage() {
    sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0"
}

tree=$(cd "$(dirname "$0")" && pwd)
lock=$tree/requirements/salt.txt
build_lock=$tree/requirements/build.txt
inventory=$tree/pillar/hosts.yaml
# The templates of the files that it writes, and the list of Debians.
templates=$tree/bootstrap
debians=$tree/salt/debian.yaml
prefix=/opt/saltern
changed=no
id=
mode=
master=
master_key=

while [ $# -gt 0 ]; do
    case $1 in
        --*=*) value=${1#*=}; option=${1%%=*}; shift; set -- "$option" "$value" "$@" ;;
        --id) [ $# -ge 2 ] || die "--id: expected a host of pillar/hosts.yaml after it"; id=$2; shift 2 ;;
        --masterless | --master)
            [ -z "$mode" ] || die "$1: expected one of --masterless, --master and --minion-of"
            mode=${1#--}; shift ;;
        --minion-of)
            [ $# -ge 2 ] || die "--minion-of: expected the master's name or address after it"
            [ -z "$mode" ] || die "$1: expected one of --masterless, --master and --minion-of"
            mode=minion; master=$2; shift 2 ;;
        --master-key)
            [ $# -ge 2 ] || die "--master-key: expected the fingerprint of the master's key after it"
            master_key=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *)
            die "$1: unknown option; expected --id ID, --masterless, --master" \
                "or --minion-of HOST --master-key FINGERPRINT" ;;
    esac
done

# --- What must be true before anything is touched -------------------------------------------------------------------

[ "$(id -u)" -eq 0 ] || die "not root: run it with sudo, or as root"

# shellcheck source=/dev/null
release=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-unknown}") || release=unknown
[ -r "$debians" ] || die "$debians: no such file; run bootstrap.sh from a whole checkout of the tree"
versions=$(sed -n 's/^  version: //p' "$debians")
echo "$versions" | sed 's/^/debian /' | grep -qxF -- "$release" ||
    die "not a supported Debian: found '$release', expected Debian" \
        "$(echo "$versions" | sort | paste -sd, | sed 's/,/ or /g'); use such a host"

[ -d /run/systemd/system ] || die "systemd is not running: boot the host with systemd as its init, then run this again"

for file in "$lock" "$build_lock" "$templates"; do
    [ -r "$file" ] || die "$file: no such file; run bootstrap.sh from a whole checkout of the tree"
done
[ -r "$inventory" ] || die "$inventory: no such file; declare your hosts in it"

if [ -z "$id" ] && [ -r /etc/salt/minion ]; then
    id=$(sed -n 's/^id: //p' /etc/salt/minion)
fi
[ -n "$id" ] || id=$(hostname)
ids=$(sed -n 's/^["'\'']\{0,1\}\([A-Za-z0-9][A-Za-z0-9._-]*\)["'\'']\{0,1\}:.*/\1/p' "$inventory" | sort)
# shellcheck disable=SC2086,SC2116 # one line of them
echo "$ids" | grep -qxF -- "$id" ||
    die "id '$id' is not in pillar/hosts.yaml: add a row for it, or give one that is there with --id ($(echo $ids))"

# Options of the last call stay valid.
said() {
    sed -n "s/^$1: //p" /etc/salt/minion 2>/dev/null | head -n 1
}
was=masterless
! head -n 1 /etc/salt/master 2>/dev/null | grep -q '^# Written by bootstrap.sh' || was=master
[ "$(said file_client)" != remote ] || was=minion
[ -n "$mode" ] || mode=$was
if [ "$mode" = minion ]; then
    [ -n "$master" ] || master=$(said master)
    [ -n "$master_key" ] || [ "$(said master)" != "$master" ] || master_key=$(said master_finger)
    echo "$master" | grep -qxE '[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?' ||
        die "--minion-of: '$master' is no name and no address of a host"
    echo "$master_key" | grep -qxE '([0-9a-f]{2}:){31}[0-9a-f]{2}' ||
        die "--master-key: expected the fingerprint of $master's key, 32 pairs of hexadecimal digits with colons" \
            "between them, as bootstrap.sh --master tells it there"
elif [ -n "$master_key" ]; then
    die "--master-key: is a minion's; expected it beside --minion-of"
fi

# --- What apt provides ----------------------------------------------------------------------------------------------

# apt reads only the lower-case names.
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || export "$(echo $name | tr '[:upper:]' '[:lower:]')=$value"
done

# Prints which process holds a lock of apt, if any does.
apt_holder() {
    for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock; do
        inode=$(stat -c %i "$file" 2>/dev/null) || continue
        pid=$(awk -v end=":$inode" \
            '$2 == "POSIX" && substr($6, length($6) - length(end) + 1) == end {print $5; exit}' /proc/locks)
        [ -z "$pid" ] || { echo "PID $pid ($(cat "/proc/$pid/comm" 2>/dev/null)) holds $file"; return 0; }
    done
}

# Waits until no process holds a lock of apt, for 300 seconds at most.
await_apt() {
    for second in $(seq 300); do
        who=$(apt_holder)
        [ -n "$who" ] || return 0
        [ $((second % 30)) -ne 1 ] || say "apt: $who; waits for it, $((301 - second)) s at most"
        sleep 1
    done
    die "apt: $who, after 300 s still; let it end, or end it, and run this again"
}

missing=
for package in python3 python3-venv ca-certificates gpg gpg-agent; do
    dpkg-query -W -f '${db:Status-Status}' $package 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
    await_apt
    say "installing$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of words
    if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends $missing; } >"$log" 2>&1; then
        reason=$(grep -E '^E: ' "$log" | head -n 1)
        rm -f "$log"
        die "apt-get could not install$missing: ${reason:-no reason given}; mend the apt sources or set HTTPS_PROXY"
    fi
    rm -f "$log"
    changed=yes
fi

# --- Salt, in a virtual environment named by its lock ----------------------------------------------------------------

# Gives uv the index that pip knows: uv has its own names for the same variables.
index() {
    if [ -n "${PIP_INDEX_URL:-}" ]; then
        export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
    fi
    if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then
        export UV_INDEX="$PIP_EXTRA_INDEX_URL"
    fi
    if [ -n "${SSL_CERT_FILE:-}" ]; then
        [ -r "$SSL_CERT_FILE" ] ||
            die "SSL_CERT_FILE: $SSL_CERT_FILE: no such file; give the authorities' certificates in PEM"
    else
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
    fi
    export SSL_CERT_FILE PIP_CERT="$SSL_CERT_FILE"
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
    export UV_NO_PROGRESS=1 UV_NO_CONFIG=1 UV_CACHE_DIR="$prefix/.cache" UV_LINK_MODE=hardlink UV_PYTHON_DOWNLOADS=never
}

# Ends with the reason in one line. $1: what was tried; $2: its output.
index_failed() {
    if grep -qiE 'hash mismatch|do not match the hashes' "$2"; then
        reason="what the index gave does not match the hashes of requirements/salt.txt; do not use that index"
    else
        # Shows the network's own words, or else the last line of pip or uv, without the index's user and password.
        network='connection refused|name or service not known|failure in name resolution|network is unreachable'
        network="$network|timed out|certificate verify failed|invalid peer certificate|40[137] [a-z ]+"
        reason=$(grep -m 1 -oiE "$network" "$2" ||
            grep -iE 'error|failed|caused by|no such' "$2" | tail -n 1 |
            sed -e 's/^[^[:alnum:]]*//' -e 's,://[^/@ ]*@,://,g' | cut -c1-200)
        reason="the package index did not answer as expected (${reason:-no reason given}); set PIP_INDEX_URL,"
        reason="$reason HTTPS_PROXY or SSL_CERT_FILE"
    fi
    rm -f "$2"
    rm -rf "$venv" "$prefix/.cache"
    die "$1: $reason"
}

# The apps' users must not read the tree, which has other apps' builds and in dev their secrets. A lab's is read-only.
chmod o-rwx "$tree" 2>/dev/null || true

digest=$( { cat "$lock" "$build_lock" "$templates"/*.py; python3 --version; } | sha256sum | cut -c1-12)
venv=$prefix/$digest
if [ ! -e "$venv/.complete" ]; then
    index
    say "installing Salt $(sed -n 's/^salt==\([^ ]*\).*/\1/p' "$lock") under $prefix"
    rm -rf "$venv"
    mkdir -p "$prefix"
    python3 -m venv "$venv"
    log=$(mktemp)
    awk '/^uv==/ {p = 1} p {print} p && !/\\$/ {exit}' "$lock" >"$venv/uv.txt"
    "$venv/bin/pip" install -q --retries 2 --timeout 20 --require-hashes --no-deps -r "$venv/uv.txt" >"$log" 2>&1 ||
        index_failed "uv" "$log"
    VIRTUAL_ENV=$venv "$venv/bin/uv" pip sync -q --require-hashes --build-constraints "$build_lock" "$lock" \
        >"$log" 2>&1 || index_failed "Salt" "$log"
    rm -rf "$log" "$venv/uv.txt" "$prefix/.cache"
    # Python warns in every run of a module that Salt imports, but not of one that is imported already. At its end
    # salt-run logs what it left open, after its log is closed, and Python would print that.
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # Salt lists the directories of its modules more than eighty times in a run, and looks at each file. Byte code
    # beside the modules would double that work.
    cat "$templates/quiet.pth" >"$packages/saltern_quiet.pth"
    cat "$templates/quiet.py" >"$packages/saltern_quiet.py"
    cat "$templates/swift.py" >"$packages/saltern_swift.py"
    # Compiles the byte code now, so that nobody waits for it in a first run. A few of Salt's files are templates.
    library=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" "$library" >/dev/null 2>&1 || true
    "$venv/bin/salt-call" --version >/dev/null ||
        die "$venv/bin/salt-call does not start; remove $venv and run this again"
    touch "$venv/.complete"
    changed=yes
fi
# uv's own files, which everybody may read.
rm -f "$venv/.lock"
if [ "$(readlink "$prefix/current" 2>/dev/null)" != "$digest" ]; then
    ln -sfn "$digest" "$prefix/current.new"
    mv -T "$prefix/current.new" "$prefix/current"
    find "$prefix" -mindepth 1 -maxdepth 1 -type d ! -name "$digest" -exec rm -rf {} +
    changed=yes
fi
# Prints a template with this host's values in the place of their names. $1: the template; a line @roots@ or @options@
# in it stands for that template. Further arguments: names and values, as in id=web1.
filled() {
    template=$templates/$1.in
    shift
    edits=
    for pair in tree="$tree" prefix="$prefix" "$@"; do
        edits="$edits s/@${pair%%=*}@/$(printf '%s\n' "${pair#*=}" | sed 's,[\\/&],\\&,g')/g;"
    done
    sed -e "/^@roots@\$/{r $templates/roots.in" -e 'd}' \
        -e "/^@options@\$/{r $templates/options.in" -e 'd}' "$template" | sed "$edits"
}

# Writes a file from a template where it differs. $1: its path; $2: its mode; further arguments: as for filled.
install_file() {
    target=$1 mode_of_file=$2
    shift 2
    candidate=$(mktemp)
    filled "$@" >"$candidate"
    if [ -L "$target" ] || ! cmp -s "$candidate" "$target"; then
        install -m "$mode_of_file" "$candidate" "$target.new"
        mv -T "$target.new" "$target"
        changed=yes
    fi
    rm -f "$candidate"
}

# Installs a command of Salt's. A command that a signal ends must not exit with 0, as it does with Salt's own handlers.
# $1: its name; $2: its function; $3: the signals, but for those that its caller ignores; $4: further lines of Python.
install_command() {
    install_file "/usr/local/bin/$1" 0755 command name="$1" function="$2" signals="$3" more="${4:-}"
}

signals="signal.SIGHUP, signal.SIGINT, signal.SIGTERM"
# A master's.
for command in salt salt-run salt-key; do
    if [ "$mode" = master ]; then
        case $command in
            # On Ctrl-C it says how to look up what the minions still do.
            salt) install_command salt salt_main "signal.SIGHUP, signal.SIGTERM" ;;
            *) install_command $command "$(echo $command | tr - _)" "$signals" ;;
        esac
    elif [ "$was" = master ]; then
        rm -f /usr/local/bin/$command
    fi
done

# What a converge makes must not depend on the calling shell: under a umask of 077 the apps could not read their builds.
# su and cron leave /usr/sbin out of the PATH, where nginx and useradd are.
install_command salt-call salt_call "$signals" \
    'os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'

# --- Its configuration ------------------------------------------------------------------------------------------------

mkdir -p /etc/salt
if [ "$mode" = minion ]; then
    # A minion remembers the key of its first master.
    [ "$(said master_finger)" = "$master_key" ] || rm -f /etc/salt/pki/minion/minion_master.pub
    # The master's copy of salt/_utils comes here. Salt puts the directory on Python's path only if it is there at a
    # start.
    mkdir -p /var/cache/salt/minion/extmods/utils
    install_file /etc/salt/minion 0644 minion id="$id" master="$master" master_key="$master_key"
else
    install_file /etc/salt/minion 0644 masterless id="$id"
fi

if [ "$mode" = master ]; then
    install_file /etc/salt/master 0644 master
    # The minions' answers may have secrets.
    mkdir -p /var/cache/salt/master
    chmod 0700 /var/cache/salt/master
elif [ "$was" = master ]; then
    rm -f /etc/salt/master
fi

# The host derives the passwords that only it needs from this key. The key is made once, and kept.
if [ ! -s /etc/salt/host.key ]; then
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >/etc/salt/host.key.new)
    mv /etc/salt/host.key.new /etc/salt/host.key
    changed=yes
fi

# The host reads its environment's secrets by this key. The key is made once, beside its place, and kept.
keys=/etc/salt/gpgkeys
export_key="gpg --homedir $keys --armor --export"
if [ ! -d $keys ]; then
    rm -rf $keys.new
    mkdir -m 0700 $keys.new
    # By default gpg checks a web of trust and takes locks for each message, which is a third of its time.
    printf '%s\n' "trust-model always" no-auto-check-trustdb lock-never >$keys.new/gpg.conf
    make_key() {
        gpg --homedir $keys.new --batch --passphrase '' "$@" 2>&1
    }
    said=$(make_key --quick-generate-key "$id" ed25519 cert,sign never &&
        fingerprint=$(make_key --with-colons --list-keys | awk -F: '/^fpr/ {print $10; exit}') &&
        make_key --quick-add-key "$fingerprint" cv25519 encr never) ||
        die "gpg made no key for $id: $(echo "$said" | tail -n 1); mend that and run this again"
    gpgconf --homedir $keys.new --kill gpg-agent
    mv -T $keys.new $keys
    changed=yes
    say "the key by which $id reads secrets; put it into pillar/keys/hosts/$id.asc, then run make secrets-rekey:"
    $export_key
else
    say "the key by which $id reads secrets: $export_key"
fi

# --- Its master, or its minions -------------------------------------------------------------------------------------

# Starts one of Salt's two services where it should run, and stops it elsewhere. Restarts it after a change.
# $1: master or minion; $2: what ends with it, as systemd's KillMode says that.
service() {
    unit=/etc/systemd/system/salt-$1.service
    if [ "$mode" != "$1" ]; then
        [ "$was" = "$1" ] || return 0
        systemctl -q disable --now "salt-$1" >/dev/null 2>&1
        rm -f "$unit"
        systemctl daemon-reload
        changed=yes
        return 0
    fi
    install_file "$unit" 0644 service service="$1" kill_mode="$2"
    systemctl daemon-reload
    if [ "$changed" = yes ] || ! systemctl -q is-active "salt-$1"; then
        systemctl -q enable "salt-$1"
        systemctl restart "salt-$1" || die "salt-$1 does not start: journalctl -u salt-$1 and /var/log/salt/$1 say why"
        changed=yes
    fi
}

# Prints the fingerprint of a key of Salt, once the service has made it. $1: its file.
fingerprint() {
    for _ in $(seq 60); do
        [ -s "$1" ] && break
        sleep 0.5
    done
    [ -s "$1" ] || die "$1: not made within 30 s; journalctl -u salt-$mode says why"
    "$prefix/current/bin/python" -c \
        'import sys, salt.utils.crypt as c; print(c.pem_finger(sys.argv[1], sum_type="sha256"))' "$1"
}

service master mixed
# A run that a minion has begun goes on when the minion restarts.
service minion process
if [ "$mode" = master ]; then
    own=$(fingerprint /etc/salt/pki/master/master.pub)
    say "the fingerprint of this master's key: $own"
elif [ "$mode" = minion ]; then
    own=$(fingerprint /etc/salt/pki/minion/minion.pub)
    say "accept this minion on $master, once: salt-run minions.accept $id $own"
fi

if [ "$changed" = yes ]; then
    say "$id is ready; converge it with: salt-call state.apply"
else
    say "$id is ready; nothing to do"
fi

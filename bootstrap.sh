#!/bin/sh
# Makes a bare Debian host one that Saltern can converge: Salt at the locked versions, configured for masterless use.
#
#   bootstrap.sh [--id ID]
#
# Run it as root from the tree, at the place where the tree will stay. Run again it changes nothing; with a new
# requirements/salt.txt it installs that and then drops the old one.
#
# Honours HTTPS_PROXY, HTTP_PROXY, NO_PROXY, PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and SSL_CERT_FILE.
set -eu
# The apps' users run what lies below /usr/local, whatever the umask of the calling shell.
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
prefix=/opt/saltern
changed=no
id=

while [ $# -gt 0 ]; do
    case $1 in
        --id) [ $# -ge 2 ] || die "--id: expected a host of pillar/hosts.yaml after it"; id=$2; shift 2 ;;
        --id=*) id=${1#--id=}; shift ;;
        -h | --help) usage; exit 0 ;;
        *) die "$1: unknown option; expected --id ID" ;;
    esac
done

# --- What must be true before anything is touched -------------------------------------------------------------------

[ "$(id -u)" -eq 0 ] || die "not root: run it with sudo, or as root"

# shellcheck source=/dev/null
release=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown} ${VERSION_ID:-unknown}") || release=unknown
case $release in
    "debian 12" | "debian 13") ;;
    *) die "not a supported Debian: found '$release', expected Debian 12 or 13; use such a host" ;;
esac

[ -d /run/systemd/system ] || die "systemd is not running: boot the host with systemd as its init, then run this again"

for file in "$lock" "$build_lock"; do
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

# --- What apt provides ----------------------------------------------------------------------------------------------

# apt reads the lower-case names only.
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || export "$(echo $name | tr '[:upper:]' '[:lower:]')=$value"
done

missing=
for package in python3 python3-venv ca-certificates gpg gpg-agent; do
    dpkg-query -W -f '${db:Status-Status}' $package 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
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

# The index, as pip knows it, for uv too, which has names of its own for the same things.
index() {
    if [ -n "${PIP_INDEX_URL:-}" ]; then
        export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
    fi
    if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then
        export UV_INDEX="$PIP_EXTRA_INDEX_URL"
    fi
    if [ -n "${SSL_CERT_FILE:-}" ]; then
        [ -r "$SSL_CERT_FILE" ] || die "SSL_CERT_FILE: $SSL_CERT_FILE: no such file; give the authorities' certificates in PEM"
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
        # What the network said, or else the last that pip or uv said, without the index's user and password.
        reason=$(grep -m 1 -oiE 'connection refused|name or service not known|failure in name resolution|network is unreachable|timed out|certificate verify failed|invalid peer certificate|40[137] [a-z ]+' "$2" ||
            grep -iE 'error|failed|caused by|no such' "$2" | tail -n 1 |
            sed -e 's/^[^[:alnum:]]*//' -e 's,://[^/@ ]*@,://,g' | cut -c1-200)
        reason="the package index did not answer as expected (${reason:-no reason given}); set PIP_INDEX_URL, HTTPS_PROXY or SSL_CERT_FILE"
    fi
    rm -f "$2"
    rm -rf "$venv" "$prefix/.cache"
    die "$1: $reason"
}

digest=$( { cat "$lock" "$build_lock"; python3 --version; } | sha256sum | cut -c1-12)
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
    VIRTUAL_ENV=$venv "$venv/bin/uv" pip sync -q --require-hashes --build-constraints "$build_lock" "$lock" >"$log" 2>&1 ||
        index_failed "Salt" "$log"
    rm -rf "$log" "$venv/uv.txt" "$prefix/.cache"
    # Python warns on every run of a module that Salt imports. Imported already, it is not warned of again.
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # Salt lists the directories of its modules more than eighty times in a run, and looks at each file there: byte code
    # beside them would double that.
    cat >"$packages/saltern_quiet.pth" <<'CUSTOMIZE'
import sys; sys.pycache_prefix = f"{sys.prefix}/pycache"
import saltern_quiet
CUSTOMIZE
    cat >"$packages/saltern_quiet.py" <<'CUSTOMIZE'
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import crypt
    except ImportError:
        pass
CUSTOMIZE
    # A first run would compile the byte code, in the time of whoever waits for it. A few of Salt's files are templates.
    library=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" "$library" >/dev/null 2>&1 || true
    "$venv/bin/salt-call" --version >/dev/null || die "$venv/bin/salt-call does not start; remove $venv and run this again"
    touch "$venv/.complete"
    changed=yes
fi
if [ "$(readlink "$prefix/current" 2>/dev/null)" != "$digest" ]; then
    ln -sfn "$digest" "$prefix/current.new"
    mv -T "$prefix/current.new" "$prefix/current"
    find "$prefix" -mindepth 1 -maxdepth 1 -type d ! -name "$digest" -exec rm -rf {} +
    changed=yes
fi
# Writes a file from standard input where it differs. $1: its path; $2: its mode.
install_file() {
    candidate=$(mktemp)
    cat >"$candidate"
    if [ -L "$1" ] || ! cmp -s "$candidate" "$1"; then
        install -m "$2" "$candidate" "$1.new"
        mv -T "$1.new" "$1"
        changed=yes
    fi
    rm -f "$candidate"
}

# What a converge makes must not depend on the shell that it came from: under a umask of 077 the apps could not read their
# builds, and su and cron leave /usr/sbin out of the PATH, where nginx and useradd are.
install_file /usr/local/bin/salt-call 0755 <<COMMAND
#!/bin/sh
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec $prefix/current/bin/salt-call "\$@"
COMMAND

# --- Its configuration ------------------------------------------------------------------------------------------------

mkdir -p /etc/salt
install_file /etc/salt/minion 0644 <<CONFIG
# Written by bootstrap.sh, which overwrites it. Your own additions: /etc/salt/minion.d/*.conf
id: $id
file_client: local
master_type: disable

file_roots:
  base: [$tree/salt, $tree/formulas]
pillar_roots:
  base: [$tree/pillar]

# Saltern's modules are loaded from the tree itself: what runs is what is checked out, with no copy that can be older.
module_dirs: [$tree/salt/_modules]
states_dirs: [$tree/salt/_states]
pillar_dirs: [$tree/salt/_pillar]
autoload_dynamic_modules: False

# Checks the pillar of every run before anything is touched.
ext_pillar:
  - settings: {}

# Grains that cost time and that no state asks for.
enable_fqdns_grains: False
enable_gpu_grains: False
lazy_loader_strict_matching: True

# The key that decrypts pillar/secrets.
gpg_keydir: /etc/salt/gpgkeys

# A mistake in a pillar file is in the answer, in one line. The log would put its traceback around that, secrets and all.
state_output: changes
log_level: quiet
log_level_logfile: warning
CONFIG

# The key from which this host derives the passwords that only it needs. Made once, and kept.
if [ ! -s /etc/salt/host.key ]; then
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >/etc/salt/host.key.new)
    mv /etc/salt/host.key.new /etc/salt/host.key
    changed=yes
fi

# The key by which this host reads its environment's secrets. Made once, beside its place, and kept.
keys=/etc/salt/gpgkeys
export_key="gpg --homedir $keys --armor --export"
if [ ! -d $keys ]; then
    rm -rf $keys.new
    mkdir -m 0700 $keys.new
    # Of itself gpg looks after a web of trust and locks, for each message anew: a third of its time.
    printf '%s\n' "trust-model always" no-auto-check-trustdb lock-never >$keys.new/gpg.conf
    make_key() {
        gpg --homedir $keys.new --batch --passphrase '' "$@" 2>&1
    }
    said=$(make_key --quick-generate-key "$id" ed25519 cert,sign never &&
        make_key --quick-add-key "$(make_key --with-colons --list-keys | awk -F: '/^fpr/ {print $10; exit}')" cv25519 encr never) ||
        die "gpg made no key for $id: $(echo "$said" | tail -n 1); mend that and run this again"
    gpgconf --homedir $keys.new --kill gpg-agent
    mv -T $keys.new $keys
    changed=yes
    say "the key by which $id reads secrets; put it into pillar/keys/hosts/$id.asc, then run make secrets-rekey:"
    $export_key
else
    say "the key by which $id reads secrets: $export_key"
fi

if [ "$changed" = yes ]; then
    say "$id is ready; converge it with: salt-call state.apply"
else
    say "$id is ready; nothing to do"
fi

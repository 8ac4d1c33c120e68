#!/usr/bin/env bash
# Fuzzes the YAML parser, the xDS session, the reading of certificates and of what Citadel's callers say with libFuzzer, on the stable toolchain.
#
#   e2e/tools/fuzz.sh [SECONDS] [TARGET..]     SECONDS for each target, default 30; targets: yaml session pki callers
#
# Starts from seeds made of this repository's test data and from what earlier runs found worth keeping (target/fuzz/corpus).
# Fails if an input crashes a target, takes ten seconds or a gigabyte, and says how to run that input again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD

seconds=${1:-30}
[[ $seconds =~ ^[0-9]+$ ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(yaml session pki callers)

say() { printf 'fuzz: %s\n' "$*"; }

# Stable Rust has no `-Zsanitizer`, and needs none: this code has no `unsafe`. Coverage is LLVM's own pass. With --target, build scripts and
# procedural macros are left alone.
flags=(
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
)
host=$(rustc -vV | sed -n 's/^host: //p')
say "building"
RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR="$root/target/fuzz" \
    cargo build --quiet --locked --release --target "$host" --manifest-path e2e/fuzz/Cargo.toml

# One document per file: small seeds mutate better than big ones.
seed_yaml() {
    local file
    # Test data and samples.
    find shared services deploy e2e -name '*.yaml' -size -32k -not -path '*/target/*' -print0 |
        while IFS= read -r -d '' file; do
            awk -v dir="$1" -v base="$(printf '%s' "$file" | cksum | cut -d' ' -f1)" \
                'BEGIN { n = 0 } /^---/ { n++; next } { print > (dir "/" base "-" n) }' "$file"
        done
}

seed_session() { cp e2e/fuzz/seeds/session/* "$1"; }
seed_pki() { cp e2e/fuzz/seeds/pki/* "$1"; }
seed_callers() { cp e2e/fuzz/seeds/callers/* "$1"; }

failed=0
for target in "${targets[@]}"; do
    work=$root/target/fuzz/corpus/$target
    crashes=$root/target/fuzz/crashes/$target
    program=$root/target/fuzz/$host/release/$target
    seeds=$(mktemp -d)
    mkdir -p "$work" "$crashes"
    "seed_$target" "$seeds"
    extra=()
    [ -f "e2e/fuzz/$target.dict" ] && extra=("-dict=e2e/fuzz/$target.dict")
    say "$target: $seconds s, from $(find "$seeds" -type f | wc -l) seeds and $(find "$work" -type f | wc -l) earlier finds"
    log=$(mktemp)
    if "$program" "$work" "$seeds" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
        -artifact_prefix="$crashes/" -print_final_stats=1 "${extra[@]}" >"$log" 2>&1; then
        say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, none of them trouble"
    else
        failed=1
        tail -n 40 "$log" >&2
        say "$target: failed; the input is in $crashes, run it again with" >&2
        say "  $program $crashes/FILE" >&2
    fi
    rm -rf "$seeds" "$log"
done
exit $failed

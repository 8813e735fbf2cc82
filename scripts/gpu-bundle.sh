#!/usr/bin/env bash
# Builds dist/gpu: tests, command line, training example and their data, for a machine that has a
# GPU and a driver and nothing else. `run-all.sh` in it runs everything.
# usage: scripts/gpu-bundle.sh [directory]      (default: dist/gpu)
#
# To try the scripts alone, BUNDLE_PROFILE=dev takes what plain cargo test builds, kernels or not.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:-dist/gpu}
limit=$((60 << 20))

fail() {
    echo "gpu-bundle: $*" >&2
    exit 1
}

if [ "${BUNDLE_PROFILE:-release}" = release ]; then
    export NDCONV_CUDA=require
    profile=--release
else
    profile=
fi
# Each with the emulator, as under plain cargo test, so that all share one build of the library.
built=$(
    cargo build $profile --locked --bin ndconv --example digits --message-format=json
    cargo test $profile --locked --no-run --lib --test suite --message-format=json
)
# program NAME PATTERN: without symbols, from what cargo built under that name
program() {
    local path
    path=$(sed -n 's|.*"executable":"\([^"]*/'"$2"'\)".*|\1|p' <<<"$built" | tail -n 1)
    [ -n "$path" ] || fail "cargo built no $2"
    strip -o "$new/bin/$1" "$path"
}

mkdir -p "$(dirname "$target")"
new=$(mktemp -d "$(dirname "$target")/gpu.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
mkdir -p "$new/bin" "$new/tests/golden" "$new/benches" "$new/scripts"
program ndconv ndconv
program digits examples/digits
program suite 'suite-[0-9a-f]*'
program unit 'ndconv-[0-9a-f]*'
cp -r tests/cases tests/files "$new/tests/"
cp -r tests/golden/cases "$new/tests/golden/"
cp -r benches/layers benches/peers "$new/benches/"
cp scripts/sanitize.sh "$new/scripts/"
cp scripts/gpu-run-all.sh "$new/run-all.sh"

# Packed, because they are large; run-all.sh unpacks them.
tar -czf "$new/bin.tar.gz" -C "$new" bin
rm -r "$new/bin"
sanitizer=${CARGO_TARGET_DIR:-target}/sanitizer
if scripts/install-sanitizer.sh "$sanitizer"; then
    tar -czf "$new/sanitizer.tar.gz" -C "$sanitizer" bin lib
else
    echo "gpu-bundle: without compute-sanitizer: run-all.sh will need the machine's own" >&2
fi
size() { du -sb "$1" | cut -f 1; }
if [ "$(size "$new")" -gt "$limit" ] && [ -e "$new/sanitizer.tar.gz" ]; then
    echo "gpu-bundle: compute-sanitizer is left out, the bundle would be too large" >&2
    rm "$new/sanitizer.tar.gz"
fi
[ "$(size "$new")" -le "$limit" ] || fail "$(size "$new") bytes are more than $limit"
rm -rf "$target"
mv "$new" "$target"
echo "$target: $(($(size "$target") >> 10)) KiB"

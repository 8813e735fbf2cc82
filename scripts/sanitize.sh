#!/usr/bin/env bash
# Runs the tests of the kernels on a GPU under compute-sanitizer: memcheck, then racecheck.
# usage: scripts/sanitize.sh [suite]      (a built test binary; without one it is built here)
#
# SANITIZER_TESTS   which tests, a part of their names            (device_parity)
# SANITIZER_TOOLS   in which order what is checked                (memcheck racecheck)
# SANITIZER_LIMIT   seconds for each tool                         (1800)
set -euo pipefail

fail() {
    echo "sanitize: $*" >&2
    exit 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
tests=${SANITIZER_TESTS:-device_parity}
read -ra tools <<<"${SANITIZER_TOOLS:-memcheck racecheck}"
limit=${SANITIZER_LIMIT:-1800}

if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
    fail "there is no NVIDIA GPU on this machine (neither /dev/nvidiactl nor /dev/dxg); the emulator checks the same kernels under plain cargo test"
fi

find_sanitizer() {
    local candidate
    for candidate in "$(command -v compute-sanitizer || true)" \
        "${CUDA_HOME:+$CUDA_HOME/bin/compute-sanitizer}" \
        "${CUDA_PATH:+$CUDA_PATH/bin/compute-sanitizer}" \
        /usr/local/cuda/bin/compute-sanitizer \
        "$root/.cuda/sanitizer/bin/compute-sanitizer"; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
    fail "compute-sanitizer was not found (looked at PATH, CUDA_HOME, CUDA_PATH, /usr/local/cuda, .cuda/sanitizer): install the CUDA toolkit, or run scripts/install-sanitizer.sh"
}
sanitizer=$(find_sanitizer)

suite=${1:-}
if [ -z "$suite" ]; then
    cd "$root"
    built=$(NDCONV_CUDA=require cargo test --release --no-run --test suite --message-format=json)
    suite=$(sed -n 's/.*"executable":"\([^"]*\/suite-[^"]*\)".*/\1/p' <<<"$built" | tail -n 1)
    [ -n "$suite" ] || fail "cargo built no test binary"
fi
[ -x "$suite" ] || fail "$suite is no program"

status=0
for tool in "${tools[@]}"; do
    echo "== $tool: $("$sanitizer" --version | tail -n 1)"
    # one test at a time: with several, a report does not say whose kernel it is about
    REQUIRE_CUDA=1 timeout "$limit" "$sanitizer" --tool "$tool" --error-exitcode 99 \
        "$suite" "$tests" --test-threads=1 || {
        code=$?
        echo "sanitize: $tool failed (exit code $code)" >&2
        status=1
    }
done
exit "$status"

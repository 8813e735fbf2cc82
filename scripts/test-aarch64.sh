#!/usr/bin/env bash
# Builds the tests for 64-bit Arm and runs them with NEON on any Linux machine, under QEMU's user emulation.
# Left out are the tests that start programs of this package, which need the system to run Arm programs,
# and those of the CUDA kernels on their emulator, which have nothing to do with the processor.
# usage: scripts/test-aarch64.sh [a part of the names of tests]
#
# Needs: rustup target add aarch64-unknown-linux-gnu
#        Debian's packages qemu-user-static and crossbuild-essential-arm64
set -euo pipefail
cd "$(dirname "$0")/.."

export NDCONV_CUDA=off
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${LINKER:-aarch64-linux-gnu-gcc}
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=${RUNNER:-qemu-aarch64-static -L /usr/aarch64-linux-gnu}
for program in "$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER" \
    "${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER%% *}"; do
    command -v "$program" >/dev/null || {
        echo "test-aarch64: $program is not on this machine; the head of this script says what it needs" >&2
        exit 1
    }
done

exec cargo test --locked --target aarch64-unknown-linux-gnu --lib --test suite -- "$@" \
    --skip bench:: --skip cli:: --skip remap_cli:: --skip device_parity

#!/usr/bin/env bash
# Puts the CUDA compiler under .cuda/, where build.rs looks for it: no root, no GPU, no driver.
# usage: scripts/install-nvcc.sh [directory]      (default: .cuda beside this script's folder)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${1:-$here/.cuda}
python=${PYTHON:-python3}

# One release throughout: nvcc, its front end and the headers check each other's version.
packages=(
    nvidia-cuda-nvcc==13.0.88
    nvidia-cuda-crt==13.0.88
    nvidia-nvvm==13.0.88
    nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85
)

if [ -x "$target/bin/nvcc" ] && "$target/bin/nvcc" --version | grep -q 'release 13\.0'; then
    echo "$target/bin/nvcc is there already"
    exit 0
fi
mkdir -p "$target"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
    --target "$target/packages" "${packages[@]}"
root=$target/packages/nvidia/cu13
chmod +x "$root"/bin/* "$root"/nvvm/bin/* 2>/dev/null || true
rm -rf "$target/bin"
mkdir "$target/bin"
# nvcc finds its own parts beside the file that it was started as, so a link would not do.
printf '#!/bin/sh\nexec "%s/bin/nvcc" "$@"\n' "$root" >"$target/bin/nvcc"
chmod +x "$target/bin/nvcc"
"$target/bin/nvcc" --version | tail -n 2

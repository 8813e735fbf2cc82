#!/usr/bin/env bash
# Puts NVIDIA's compute-sanitizer under .cuda/sanitizer, where scripts/sanitize.sh looks for it: no
# root, no CUDA toolkit.
# usage: scripts/install-sanitizer.sh [directory]      (default: .cuda/sanitizer beside this folder)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${1:-$here/.cuda/sanitizer}
python=${PYTHON:-python3}
# of the release that scripts/install-nvcc.sh installs
package=nvidia-cuda-sanitizer-api==13.0.85

if [ -x "$target/bin/compute-sanitizer" ]; then
    echo "$target/bin/compute-sanitizer is there already"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work" "$package"
root=$work/nvidia/cu13
[ -f "$root/bin/compute-sanitizer" ] || {
    echo "install-sanitizer: there is no compute-sanitizer in $package" >&2
    exit 1
}
chmod +x "$root/bin/compute-sanitizer"
mkdir -p "$target"
rm -rf "$target/bin" "$target/lib"
cp -r "$root/bin" "$root/lib" "$target/"
# the package holds it twice
if cmp -s "$target/bin/libsanitizer-collection.so" "$target/lib/libsanitizer-collection.so"; then
    ln -sf ../bin/libsanitizer-collection.so "$target/lib/"
fi
"$target/bin/compute-sanitizer" --version | tail -n 1

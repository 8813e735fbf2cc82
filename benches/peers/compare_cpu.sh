#!/usr/bin/env bash
# The CPU engine side by side with PyTorch, ONNX Runtime and JAX: sets up a Python environment under
# target/, builds the bench program, and runs compare.py, whose options it passes on (--help lists them).
# Ends in one line: geomean fprop A dgrad B wgrad C worst D.
#
# NDCONV_PEERS_VENV names an environment that has the packages of requirements.txt already;
# NDCONV_PEERS_BENCH a bench program that was built already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
target=${CARGO_TARGET_DIR:-target}

venv=${NDCONV_PEERS_VENV:-$target/peers-venv}
if [[ ! -x $venv/bin/python ]]; then
    python3 -m venv "$venv.new"
    "$venv.new/bin/pip" install --quiet --requirement "$here/requirements.txt" >&2
    mv "$venv.new" "$venv"
fi

bench=${NDCONV_PEERS_BENCH:-}
if [[ -z $bench ]]; then
    bench=$(NDCONV_CUDA=${NDCONV_CUDA:-off} cargo bench --quiet --bench conv --no-run --message-format=json |
        "$venv/bin/python" -c '
import json, sys
messages = [json.loads(line) for line in sys.stdin if line.startswith("{")]
print([m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "conv"][-1])')
fi
exec "$venv/bin/python" "$here/compare.py" --bench "$bench" "$@"

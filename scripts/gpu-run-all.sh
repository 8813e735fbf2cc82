#!/usr/bin/env bash
# Runs a bundle of scripts/gpu-bundle.sh on a machine with a GPU: parity with the CPU, compute-
# sanitizer, benches (beside PyTorch, where python3 has it), training. Needs a driver alone.
# usage: ./run-all.sh [directory]      (default: ./out)
#
# Everything is tried, whatever fails; the exit code is 0 if all of parity passed. Results:
#   summary.md      what ran, how it ended, tables
#   devices.json, parity.log, sanitizer.log, training.log
#   bench/          LIST.json, LIST.html and, of PyTorch, LIST-peer.json
#
# DEVICE            what benches and training run on                       (cuda:0)
# STEPS             parity sanitizer bench training
# LISTS             lists of layers: ndconv bench --shapes                 (resnet50 deepbench)
# DTYPES, LAYOUTS   comma-separated                                        (f32,f16,bf16; both)
# BUDGET, REPEATS   seconds and runs of a pass                             (0.2, 15)
# EPOCHS            of the training                                        (20)
# LIMIT             seconds for one step                                   (1800)
set -uo pipefail

mkdir -p "${1:-out}/bench" || exit 2
out=$(cd "${1:-out}" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here" || exit 2
export NDCONV_ROOT=$here
[ -d bin ] || tar -xzf bin.tar.gz || exit 2

device=${DEVICE:-cuda:0}
steps=${STEPS:-parity sanitizer bench training}
read -ra lists <<<"${LISTS:-resnet50 deepbench}"
dtypes=${DTYPES:-f32,f16,bf16}
layouts=${LAYOUTS:-channels_first,channels_last}
effort=(--budget "${BUDGET:-0.2}" --repeats "${REPEATS:-15}")
limit=${LIMIT:-1800}
ndconv=$here/bin/ndconv
on_gpu=1
case $device in cuda*) ;; *) on_gpu= ;; esac

summary=$out/summary.md
tables=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$tables" "$work"' EXIT
parity=0

# step NAME LOG COMMAND...: output goes to LOG, the end of it to the summary
step() {
    local name=$1 log=$2 begin=$SECONDS code=0 result
    shift 2
    echo "== $name"
    timeout --kill-after=30 "$limit" "$@" >"$work/output" 2>&1 || code=$?
    { echo "== $name"; cat "$work/output"; echo; } >>"$log"
    case $code in
        0) result=passed ;;
        124 | 137) result="stopped after $limit s" ;;
        *) result="**failed** ($code)" ;;
    esac
    echo "$result"
    echo "| $name | $result | $((SECONDS - begin)) |" >>"$summary"
    return "$code"
}

skipped() {
    echo "== $1: skipped: $2"
    echo "| $1 | skipped: $2 | |" >>"$summary"
}

{
    echo "# ndconv on $device"
    echo
    echo "$("$ndconv" --version), $(date -u +%Y-%m-%d), $(uname -srm)"
    command -v nvidia-smi >/dev/null &&
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
    echo
    echo "| step | result | seconds |"
    echo "| --- | --- | --- |"
} >"$summary"
rm -f "$out"/*.log
"$ndconv" devices --json >"$out/devices.json" 2>/dev/null || true

wants() { [[ " $steps " == *" $1 "* ]]; }

if wants parity; then
    [ -n "$on_gpu" ] && export REQUIRE_CUDA=1
    step "unit tests" "$out/parity.log" bin/unit || parity=1
    step "tests of the kernels" "$out/parity.log" bin/suite device_parity || parity=1
    step "all other tests" "$out/parity.log" bin/suite --skip device_parity || parity=1
    for dtype in f64 f32 f16 bf16; do
        step "golden cases, $dtype" "$out/parity.log" \
            "$ndconv" check tests/cases tests/golden/cases --device "$device" --dtype "$dtype" || parity=1
    done
    unset REQUIRE_CUDA
fi

if wants sanitizer; then
    if [ -z "$on_gpu" ]; then
        skipped sanitizer "$device is no GPU"
    else
        if [ -e sanitizer.tar.gz ] && ! command -v compute-sanitizer >/dev/null; then
            mkdir "$work/sanitizer" && tar -xzf sanitizer.tar.gz -C "$work/sanitizer" &&
                export PATH="$PATH:$work/sanitizer/bin"
        fi
        for tool in memcheck racecheck; do
            SANITIZER_TOOLS=$tool SANITIZER_LIMIT=$limit \
                step "$tool" "$out/sanitizer.log" scripts/sanitize.sh bin/suite
        done
    fi
fi

bench() {
    local list=$1 name=$2 compare=()
    if python3 -c 'import torch' 2>/dev/null; then
        local torch_device=$device
        [ -n "$on_gpu" ] || torch_device=cpu
        "$ndconv" bench --shapes "$list" --list >"$work/layers.json" || return
        step "PyTorch, $name" "$out/bench/peer.log" sh -c '
            peer=$1 && shift && exec python3 benches/peers/torch_conv.py "$@" >"$peer"' sh \
            "$work/peer.json" "$work/layers.json" --device "$torch_device" --dtype "$dtypes" \
            --layout "$layouts" "${effort[@]}" &&
            cp "$work/peer.json" "$out/bench/$name-peer.json" &&
            compare=(--compare "$out/bench/$name-peer.json")
    else
        skipped "PyTorch, $name" "python3 has no torch"
    fi
    step "benches, $name" "$work/$name.log" "$ndconv" bench --shapes "$list" --device "$device" \
        --dtype "$dtypes" --layout "$layouts" "${effort[@]}" --save "$out/bench/$name.json" \
        --report "$out/bench/$name.html" "${compare[@]}"
    { echo; echo "## $name"; echo '```text'; tail -n +2 "$work/$name.log"; echo '```'; } >>"$tables"
}

if wants bench; then
    for list in "${lists[@]}"; do
        name=$(basename "$list")
        bench "$list" "${name%.*}"
    done
fi

if wants training; then
    step "training" "$out/training.log" bin/digits --device "$device" --epochs "${EPOCHS:-20}" \
        --out "$work/digits"
    { echo; echo "## Training"; echo '```text'; tail -n 4 "$out/training.log"; echo '```'; } >>"$tables"
fi

cat "$tables" >>"$summary"
echo "results are in $out"
if [ "$parity" -ne 0 ]; then
    echo "parity FAILED: see $out/parity.log" >&2
fi
exit "$parity"

#!/bin/sh
# Opens a report of `ndconv bench --report` in Debian's chromium, without a window, and asserts that
# it draws its plot and has a table row for every measurement of every layer.
#
#   scripts/check-report.sh out.html
#   scripts/check-report.sh              # makes a small report first
#
# Needs `chromium` (apt-get install chromium), or CHROMIUM naming another one. NDCONV names a program
# to make the report with, in place of one that cargo builds.
set -eu

fail() {
    echo "check-report: $*" >&2
    exit 1
}

chromium=${CHROMIUM:-chromium}
command -v "$chromium" >/dev/null || fail "no $chromium: apt-get install chromium, or set CHROMIUM"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# -gt 0 ]; then
    report=$1
else
    report=$work/report.html
    ${NDCONV:-cargo run --quiet --bin ndconv --} bench --report "$report" --repeats 1 --budget 0.01 \
        --layer 'conv2d n=1 c=2 k=3 size=8 kernel=3 pad=1' \
        --layer 'conv_transpose1d n=1 c=2 k=3 size=8 kernel=3 stride=2' >/dev/null
fi
[ -s "$report" ] || fail "$report is missing or empty"
case $report in /*) ;; *) report=$PWD/$report ;; esac

browse() {
    "$chromium" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" \
        --hide-scrollbars "$@" 2>"$work/log" || { cat "$work/log" >&2; fail "$chromium failed"; }
}

# The page as the browser understood it.
browse --dump-dom "file://$report" >"$work/dom.html"
attribute() { sed -n "s/.*<body[^>]* data-$1=\"\([0-9]*\)\".*/\1/p" "$work/dom.html" | head -n 1; }
rows=$(attribute rows)
layers=$(attribute layers)
[ "${rows:-0}" -gt 0 ] || fail "the page says of no rows"
count() { grep -o "$1" "$work/dom.html" | wc -l; }
[ "$(count '<tr class="row"')" -eq "$rows" ] || fail "expected $rows table rows, got $(count '<tr class="row"')"
[ "$(count '<circle class="')" -eq "$rows" ] || fail "expected $rows points, got $(count '<circle class="')"
[ "$(count '<polyline class="roof"')" -gt 0 ] || fail "there is no roof"
seen=$(grep -o 'data-layer="[^"]*"' "$work/dom.html" | uniq | wc -l)
[ "$seen" -eq "$layers" ] || fail "expected $layers layers in the table, got $seen"

# What it draws: the picture of a page with a plot is far larger than that of the same page without.
browse --window-size=1100,800 --screenshot="$work/page.png" "file://$report" >/dev/null
echo '<!DOCTYPE html><title>empty</title>' >"$work/empty.html"
browse --window-size=1100,800 --screenshot="$work/empty.png" "file://$work/empty.html" >/dev/null
size() { wc -c <"$1"; }
[ "$(size "$work/page.png")" -gt $((4 * $(size "$work/empty.png"))) ] || fail "the page is drawn empty"
# and the plot itself has a place on it
sed 's|</body>|<pre id="box"></pre><script>var b=document.getElementById("roofline").getBoundingClientRect();document.getElementById("box").textContent="box "+Math.round(b.width)+" "+Math.round(b.height)</script></body>|' \
    "$report" >"$work/boxed.html"
browse --window-size=1100,800 --dump-dom "file://$work/boxed.html" >"$work/boxed.dom"
box=$(sed -n 's/.*>box \([0-9]*\) \([0-9]*\)<.*/\1 \2/p' "$work/boxed.dom")
set -- $box
{ [ "${1:-0}" -gt 300 ] && [ "${2:-0}" -gt 100 ]; } || fail "the plot has no size: ${box:-none}"

echo "check-report: $layers layers, $rows rows, plot of ${1}x$2 pixels"

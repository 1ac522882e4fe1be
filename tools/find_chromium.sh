#!/usr/bin/env bash
# Print the path of a Chromium for `make test-browser`. Where there is none and apt-get may install
# one, it does.
set -euo pipefail

if [[ -n "${CYMLP_CHROMIUM:-}" ]]; then
    if ! path=$(command -v "$CYMLP_CHROMIUM"); then
        echo "CYMLP_CHROMIUM names $CYMLP_CHROMIUM, which is no program" >&2
        exit 1
    fi
    echo "$path"
    exit
fi

find_it() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name"; then return; fi
    done
    return 1
}

if find_it; then exit; fi

as_root=()
if [[ $(id -u) != 0 ]]; then as_root=(sudo --non-interactive); fi
if command -v apt-get > /dev/null && "${as_root[@]}" true 2> /dev/null; then
    echo "installing chromium with apt-get" >&2
    install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
        apt-get install --yes --quiet=2 --no-install-recommends chromium)
    "${install[@]}" >&2 || { "${as_root[@]}" apt-get update --quiet=2 >&2 && "${install[@]}" >&2; } || true
    hash -r
    if find_it; then exit; fi
fi
echo "make test-browser needs Chromium or Chrome: install one (on Debian: apt install chromium)," \
    "or name one in CYMLP_CHROMIUM" >&2
exit 1

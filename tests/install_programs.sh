#!/bin/sh
# Makes sure of the programs that tests run beside Python: installs Debian's packages where it may,
# and says what is missing where it may not.
set -eu

missing=""
require() { # program, package
    command -v "$1" > /dev/null || missing="$missing $2"
}
require git git
require git-lfs git-lfs
require curl curl
require chromium chromium
require node nodejs
require npm npm

if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Word splitting is meant: one word is one package.
    apt-get install -y -qq $missing
else
    echo "The tests run programs that are not here. Install, for instance as root by apt-get:$missing" >&2
    exit 1
fi

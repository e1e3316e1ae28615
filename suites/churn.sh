#!/bin/sh
# Writes, renames, links and deletes below DIRECTORY for as long as that works, and never syncs.
set -eu
mkdir -p "$1"
cd "$1"
number=0
while :; do
    number=$((number + 1))
    head -c $((number % 50 * 1000 + 1)) /dev/zero >"new.$((number % 5))"
    mv "new.$((number % 5))" "file.$((number % 20))"
    ln -f "file.$((number % 20))" "link.$((number % 7))"
    rm -f "file.$(((number + 10) % 20))"
done

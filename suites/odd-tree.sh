#!/bin/sh
# Makes a tree at DIRECTORY with everything that a copy can lose. Needs root, acl and attr.
set -eu
umask 022
mkdir -p "$1"
cd "$1"

# Contents: empty, one byte, odd sizes, a hole before, between and after data.
: >empty
printf x >one
seq 1 200000 | head -c 1048577 >numbers
truncate -s 64M sparse
printf middle | dd of=sparse bs=1 seek=33554431 conv=notrunc status=none

# Names: spaces, leading dash, newline, bytes that are no UTF-8, the longest there is.
mkdir names
(
    cd names
    : >' leading and trailing '
    : >-n
    : >"new
line"
    : >"$(printf '\377\200')"
    : >"$(printf '%0255d' 7)"
    : >'*?[a]\"'"'"
    mkdir -p deep/er/and/deep/er/still
    : >deep/er/and/deep/er/still/file
)

# Types.
mkdir types
(
    cd types
    mkfifo fifo
    mknod null c 1 3
    mknod large c 259 1048575
    mknod loop b 7 200
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
    ln -s ../one relative
    ln -s /nowhere/at/all dangling
    ln -s "$(printf '%01000d' 1)" long
    mkdir empty
)

# Hard links, across directories and to more than files.
mkdir links
ln one links/one
ln one links/again
ln types/fifo links/fifo
ln types/dangling links/dangling

# Owners and permissions; chown comes first, since it takes the set-id bits away.
mkdir modes
(
    cd modes
    for mode in 0000 0400 0644 0777 1644 2755 4755 6711 7777; do
        : >"$mode"
        mkdir "d$mode"
        chown 12345:54321 "$mode" "d$mode"
        chmod "$mode" "$mode" "d$mode"
    done
    : >last
    chown 4294967294:4294967294 last
    ln -s x symlink
    chown -h 77:88 symlink
)

# Extended attributes and access control lists.
mkdir attributes
(
    cd attributes
    : >user
    setfattr -n user.text -v 'a value' user
    setfattr -n user.binary -v 0x00ff0a00 user
    setfattr -n user.empty user
    setfattr -n "user.$(printf '%0249d' 1)" -v long user
    setfattr -n user.directory -v yes .
    : >trusted
    setfattr -n trusted.secret -v 1 trusted
    : >capable
    setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 capable
    : >acl
    setfacl -m u:1234:rw-,g:4321:r--,m::rwx acl
    mkdir default
    setfacl -m d:u:1234:rwx,d:g::r-x,u:99:--x default
    : >default/inherits
)

# Times: before 1970, beyond 32 bits, the last that a volume knows, with every nanosecond. Directories last: what is made in them changes their time.
mkdir times
(
    cd times
    touch -d '1935-06-07 08:09:10.123456789 UTC' old
    touch -d '1970-01-01 00:00:00.000000001 UTC' first
    touch -d '2038-01-19 03:14:08 UTC' after2038
    touch -d '2262-04-11 23:47:16.854775807 UTC' last
    ln -s nowhere symlink
    touch -h -d '2001-02-03 04:05:06.7 UTC' symlink
    mkdir directory
    touch -d '1999-12-31 23:59:59.5 UTC' directory .
)

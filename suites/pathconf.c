/*
 * pathconf(_PC_LINK_MAX) of the C library goes by a table of file systems, in which FUSE is not: it answers 127, "not
 * known", for every FUSE mount, and a test of the limit is skipped. Preloaded, this answers what a volume's limit is
 * (docs/semantics.md), so that the test can see whether it is kept.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { FUSE = 0x65735546, LINK_MAX_OF_A_VOLUME = 65000 };

long pathconf(const char *path, int name) {
    struct statfs found;
    if (name == _PC_LINK_MAX && statfs(path, &found) == 0 && found.f_type == FUSE) {
        return LINK_MAX_OF_A_VOLUME;
    }
    long (*original)(const char *, int) = (long (*)(const char *, int))dlsym(RTLD_NEXT, "pathconf");
    return original(path, name);
}

/* Reads that touch some bytes of one file fail, as they do where a disk can't read a sector. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_bad(int file, off_t at, size_t bytes) {
    const char *inode = getenv("BAD_INODE"), *from = getenv("BAD_FROM"), *until = getenv("BAD_UNTIL");
    struct stat stat;
    if (!inode || !from || !until || at < 0 || at >= atoll(until) || at + (off_t)bytes <= atoll(from)) {
        return 0;
    }
    return fstat(file, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_ino == strtoull(inode, NULL, 10);
}

ssize_t read(int file, void *buffer, size_t bytes) {
    ssize_t (*next)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    if (is_bad(file, lseek(file, 0, SEEK_CUR), bytes)) {
        errno = atoi(getenv("BAD_ERRNO"));
        return -1;
    }
    return next(file, buffer, bytes);
}

ssize_t pread64(int file, void *buffer, size_t bytes, off_t at) {
    ssize_t (*next)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread64");
    if (is_bad(file, at, bytes)) {
        errno = atoi(getenv("BAD_ERRNO"));
        return -1;
    }
    return next(file, buffer, bytes, at);
}

ssize_t pread(int file, void *buffer, size_t bytes, off_t at) {
    return pread64(file, buffer, bytes, at);
}

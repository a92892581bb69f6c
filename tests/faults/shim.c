/* Stops a process at the n-th system call that changes a folder, or lets that call fail.
 *
 * Preloaded. Counted are calls on files in the folder (fault_folder): opening to write, writing,
 * truncating, fsync, rename, link, unlink, mkdir, chmod. `fault_arm` says at which call what happens;
 * `fault_log` gets a line for each. What a power cut loses is what was written since the last fsync.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, KILL_BEFORE, KILL_HALF, KILL_AFTER, FAIL, FAIL_HALF, POWER_LOST, POWER_HALF, POWER_ZEROS };
enum { CALM = -1, HALF = -2, AFTER = -3 };

static char folder[PATH_MAX];
static size_t folder_length;
static long count, stop_at;
static int mode, error_number, stays_broken, log_file = -1;

static struct { ino_t file; off_t synced; } files[4096]; /* written by this process */
static int file_count;

void fault_folder(const char *path) { folder_length = strlen(strcpy(folder, path)); }
long fault_count(void) { return count; }
void fault_log(int descriptor) { log_file = descriptor; }
void fault_arm(long n, int what, int number, int stays) {
    count = 0, file_count = 0, stop_at = n, mode = what, error_number = number, stays_broken = stays;
}

static int is_inside(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

static int is_ours_at(int directory, const char *path) {
    char whole[2 * PATH_MAX], base[PATH_MAX];
    if (!folder_length || !path) return 0;
    if (path[0] == '/') return is_inside(path);
    if (directory == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        char name[64];
        snprintf(name, sizeof name, "/proc/self/fd/%d", directory);
        ssize_t length = readlink(name, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return is_inside(whole);
}

static int is_ours(int descriptor) { return is_ours_at(descriptor, "."); }

static void note(int descriptor, int synced) { /* before a write, after an fsync */
    struct stat facts;
    if (fstat(descriptor, &facts) || !S_ISREG(facts.st_mode)) return;
    int i = 0;
    while (i < file_count && files[i].file != facts.st_ino) i++;
    if (i == file_count) {
        if (i == 4096) abort();
        file_count++, files[i].file = facts.st_ino, files[i].synced = facts.st_size;
        if (!synced && lseek(descriptor, 0, SEEK_CUR) < facts.st_size)
            files[i].synced = lseek(descriptor, 0, SEEK_CUR);
    }
    if (synced) files[i].synced = facts.st_size;
}

static void cut_power(const char *path) {
    DIR *stream = opendir(path);
    struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        char name[2 * PATH_MAX];
        struct stat facts;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || lstat(name, &facts)) continue;
        if (S_ISDIR(facts.st_mode)) cut_power(name);
        for (int i = 0; i < file_count; i++) {
            off_t kept = files[i].synced, lost = facts.st_size - kept;
            if (files[i].file != facts.st_ino || !S_ISREG(facts.st_mode) || lost <= 0) continue;
            syscall(SYS_truncate, name, mode == POWER_HALF ? kept + lost / 2 : kept);
            if (mode == POWER_ZEROS) syscall(SYS_truncate, name, facts.st_size);
        }
    }
    if (stream) closedir(stream);
}

static void stop(void) {
    if (mode >= POWER_LOST) cut_power(folder);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* What is to happen at this call: CALM, HALF, AFTER, or the number of an error. */
static int fate(const char *call, const char *what, int frees) {
    if (log_file >= 0) dprintf(log_file, "%s %s\n", call, what);
    long n = __sync_add_and_fetch(&count, 1);
    if (n == stop_at) {
        if (mode == KILL_BEFORE) stop();
        if (mode == KILL_HALF || mode == FAIL_HALF) return HALF;
        if (mode == KILL_AFTER || mode >= POWER_LOST) return AFTER;
        if (mode == FAIL) return error_number;
    }
    /* A full disk stays full, but deleting and renaming work there; a broken one stays broken. */
    int fails = stays_broken && stop_at && n > stop_at && (mode == FAIL || mode == FAIL_HALF);
    return fails && !(frees && error_number == ENOSPC) ? error_number : CALM;
}

#define AROUND(call, what, frees, real)                       \
    do {                                                      \
        int f = fate(call, what, frees);                      \
        if (f >= 0) return errno = f, -1;                     \
        __auto_type result = (real);                          \
        int kept = errno;                                     \
        if (f == AFTER || f == HALF) stop_if_to_be_killed();  \
        errno = kept;                                         \
        return result;                                        \
    } while (0)

static void stop_if_to_be_killed(void) {
    if (mode == KILL_HALF || mode == KILL_AFTER || mode >= POWER_LOST) stop();
}

static const char *name_of(int descriptor) {
    static __thread char path[PATH_MAX];
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int open_at(int directory, const char *path, int flags, mode_t rights) {
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT)) || !is_ours_at(directory, path))
        return syscall(SYS_openat, directory, path, flags, rights);
    AROUND("open", path, 0, (int)syscall(SYS_openat, directory, path, flags, rights));
}

#define OPEN(name, directory, parameters)                     \
    int name parameters {                                     \
        mode_t rights = 0;                                    \
        if (flags & (O_CREAT | O_TMPFILE)) {                  \
            va_list more;                                     \
            va_start(more, flags);                            \
            rights = va_arg(more, mode_t);                    \
            va_end(more);                                     \
        }                                                     \
        return open_at(directory, path, flags, rights);       \
    }
OPEN(open, AT_FDCWD, (const char *path, int flags, ...))
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...))
OPEN(openat, at, (int at, const char *path, int flags, ...))
OPEN(openat64, at, (int at, const char *path, int flags, ...))

ssize_t write(int descriptor, const void *bytes, size_t size) {
    if (!is_ours(descriptor)) return syscall(SYS_write, descriptor, bytes, size);
    note(descriptor, 0);
    int f = fate("write", name_of(descriptor), 0);
    if (f >= 0) return errno = f, -1;
    ssize_t done = syscall(SYS_write, descriptor, bytes, f == HALF ? size / 2 : size);
    if (f == HALF || f == AFTER) stop_if_to_be_killed();
    if (f == HALF && !done) return errno = error_number, -1;
    return done;
}

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    if (!is_ours(descriptor)) return syscall(SYS_writev, descriptor, parts, number);
    note(descriptor, 0);
    AROUND("writev", name_of(descriptor), 0, (ssize_t)syscall(SYS_writev, descriptor, parts, number));
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t place) {
    if (!is_ours(descriptor)) return syscall(SYS_pwrite64, descriptor, bytes, size, place);
    note(descriptor, 0);
    AROUND("pwrite", name_of(descriptor), 0, (ssize_t)syscall(SYS_pwrite64, descriptor, bytes, size, place));
}
ssize_t pwrite(int d, const void *b, size_t s, off_t p) { return pwrite64(d, b, s, p); }

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) {
    if (!is_ours(out)) return syscall(SYS_sendfile, out, in, offset, size);
    note(out, 0);
    AROUND("sendfile", name_of(out), 0, (ssize_t)syscall(SYS_sendfile, out, in, offset, size));
}
ssize_t sendfile(int out, int in, off_t *offset, size_t size) { return sendfile64(out, in, offset, size); }

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    if (!is_ours(out)) return syscall(SYS_copy_file_range, in, from, out, to, size, flags);
    note(out, 0);
    AROUND("copy", name_of(out), 0, (ssize_t)syscall(SYS_copy_file_range, in, from, out, to, size, flags));
}

static int sync_file(int descriptor, long call) {
    if (!is_ours(descriptor)) return syscall(call, descriptor);
    int f = fate("fsync", name_of(descriptor), 0);
    if (f >= 0) return errno = f, -1;
    note(descriptor, 1); /* that is all: the disk itself would only take time */
    if (f == HALF || f == AFTER) stop_if_to_be_killed();
    return 0;
}
int fsync(int descriptor) { return sync_file(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return sync_file(descriptor, SYS_fdatasync); }

int ftruncate64(int descriptor, off64_t size) {
    if (!is_ours(descriptor)) return syscall(SYS_ftruncate, descriptor, size);
    AROUND("truncate", name_of(descriptor), 1, (int)syscall(SYS_ftruncate, descriptor, size));
}
int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }
int truncate64(const char *path, off64_t size) {
    if (!is_ours_at(AT_FDCWD, path)) return syscall(SYS_truncate, path, size);
    AROUND("truncate", path, 1, (int)syscall(SYS_truncate, path, size));
}
int truncate(const char *path, off_t size) { return truncate64(path, size); }

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    if (!is_ours_at(a, from) && !is_ours_at(b, to)) return syscall(SYS_renameat2, a, from, b, to, flags);
    AROUND("rename", to, 1, (int)syscall(SYS_renameat2, a, from, b, to, flags));
}
int renameat(int a, const char *from, int b, const char *to) { return renameat2(a, from, b, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int a, const char *from, int b, const char *to, int flags) {
    if (!is_ours_at(b, to)) return syscall(SYS_linkat, a, from, b, to, flags);
    AROUND("link", to, 0, (int)syscall(SYS_linkat, a, from, b, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int directory, const char *path, int flags) {
    if (!is_ours_at(directory, path)) return syscall(SYS_unlinkat, directory, path, flags);
    AROUND("unlink", path, 1, (int)syscall(SYS_unlinkat, directory, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int directory, const char *path, mode_t rights) {
    if (!is_ours_at(directory, path)) return syscall(SYS_mkdirat, directory, path, rights);
    AROUND("mkdir", path, 0, (int)syscall(SYS_mkdirat, directory, path, rights));
}
int mkdir(const char *path, mode_t rights) { return mkdirat(AT_FDCWD, path, rights); }

int fchmod(int descriptor, mode_t rights) {
    if (!is_ours(descriptor)) return syscall(SYS_fchmod, descriptor, rights);
    AROUND("chmod", name_of(descriptor), 1, (int)syscall(SYS_fchmod, descriptor, rights));
}
int fchown(int descriptor, uid_t user, gid_t group) {
    if (!is_ours(descriptor)) return syscall(SYS_fchown, descriptor, user, group);
    AROUND("chown", name_of(descriptor), 1, (int)syscall(SYS_fchown, descriptor, user, group));
}

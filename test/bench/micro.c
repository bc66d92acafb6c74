/*
 * Times one system call or a short series of them, many times over, in one directory.
 *
 *   micro OPERATION DIRECTORY COUNT SEED
 *
 * Prints the nanoseconds that COUNT operations took. What has to exist is made by `make` and `make-empty`, and
 * everything is checked outside of the time; a wrong result ends the program with a message. SEED decides the bytes,
 * so that no two rounds write the same.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SMALL_BYTES = 2765, PAGE_BYTES = 4096 }; /* 2.7 KiB: the median of source files */

static int directory;
static long count;
static uint64_t seed;
static char content[SMALL_BYTES];

static void fail(const char *what, long i)
{
    fprintf(stderr, "%s of number %ld: %s\n", what, i, errno ? strerror(errno) : "wrong result");
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Text of 64 different characters, which compresses by a quarter. */
static void fill_content(void)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < SMALL_BYTES; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        content[i] = (char)(' ' + 1 + (x >> 58));
    }
}

/* Each file's content starts with its number and the seed. */
static void stamp(long i)
{
    char head[33];
    snprintf(head, sizeof head, "%016lx%016lx", i, (unsigned long)seed);
    memcpy(content, head, 32);
}

static const char *name_of(char prefix, long i)
{
    static char name[32];
    snprintf(name, sizeof name, "%c%08ld", prefix, i);
    return name;
}

static int create(long i)
{
    int handle = openat(directory, name_of('f', i), O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (handle < 0) fail("create", i);
    return handle;
}

static void write_all(int handle, const char *bytes, size_t length, long i)
{
    if (write(handle, bytes, length) != (ssize_t)length) fail("write", i);
}

static void close_one(int handle, long i)
{
    if (close(handle) != 0) fail("close", i);
}

static void do_create(long i) { close_one(create(i), i); }

static void do_write(long i)
{
    int handle = create(i);
    stamp(i);
    write_all(handle, content, SMALL_BYTES, i);
    close_one(handle, i);
}

static void do_fsync(long i)
{
    int handle = create(i);
    stamp(i);
    write_all(handle, content, SMALL_BYTES, i);
    if (fsync(handle) != 0) fail("fsync", i);
    close_one(handle, i);
}

static void do_read(long i)
{
    static char got[2 * SMALL_BYTES];
    int handle = openat(directory, name_of('f', i), O_RDONLY);
    if (handle < 0) fail("open", i);
    ssize_t length = read(handle, got, sizeof got);
    if (length != SMALL_BYTES || read(handle, got + length, 1) != 0) fail("read", i);
    stamp(i);
    if (memcmp(got, content, SMALL_BYTES) != 0) fail("content", i);
    close_one(handle, i);
}

static void do_negative_lookup(long i)
{
    struct stat s;
    if (fstatat(directory, name_of('n', i), &s, 0) == 0) fail("negative lookup", i);
    if (errno != ENOENT) fail("negative lookup", i);
    errno = 0;
}

static void do_stat(long i)
{
    struct stat s;
    if (fstatat(directory, name_of('f', i), &s, 0) != 0 || s.st_size != SMALL_BYTES) fail("stat", i);
}

static void do_rename(long i)
{
    char from[32];
    strcpy(from, name_of('f', i));
    if (renameat(directory, from, directory, name_of('g', i)) != 0) fail("rename", i);
}

static void do_unlink(long i)
{
    if (unlinkat(directory, name_of('f', i), 0) != 0) fail("unlink", i);
}

static int append_handle;

static void do_append(long i)
{
    static char page[PAGE_BYTES];
    stamp(i);
    memcpy(page, content, SMALL_BYTES);
    write_all(append_handle, page, PAGE_BYTES, i);
}

/* Leaves no doubt that the directory holds so many files, each of this size. */
static void check_files(long files, off_t bytes)
{
    DIR *stream = fdopendir(openat(directory, ".", O_RDONLY | O_DIRECTORY));
    long found = 0;
    if (stream == NULL) fail("opendir", 0);
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        struct stat s;
        if (entry->d_name[0] == '.') continue;
        if (fstatat(directory, entry->d_name, &s, 0) != 0 || s.st_size != bytes) fail("size", found);
        found++;
    }
    closedir(stream);
    errno = 0;
    if (found != files) fail("number of files", found);
}

struct operation {
    const char *name;
    void (*each)(long i);
    /* Files in the directory afterwards: COUNT, none, one; or nobody looks. */
    enum { ALL, NONE, ONE, UNCHECKED } left;
    off_t bytes;
};

static const struct operation operations[] = {
    {"make", do_write, UNCHECKED, 0},
    {"make-empty", do_create, UNCHECKED, 0},
    {"negative-lookup", do_negative_lookup, NONE, 0},
    {"create", do_create, ALL, 0},
    {"write", do_write, ALL, SMALL_BYTES},
    {"fsync", do_fsync, ALL, SMALL_BYTES},
    {"read", do_read, ALL, SMALL_BYTES},
    {"stat", do_stat, ALL, SMALL_BYTES},
    {"rename", do_rename, ALL, SMALL_BYTES},
    {"unlink", do_unlink, NONE, 0},
    {"append", do_append, ONE, 0},
};

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    directory = open(argv[2], O_RDONLY | O_DIRECTORY);
    if (directory < 0) fail("open of the directory", 0);
    count = atol(argv[3]);
    seed = strtoull(argv[4], NULL, 10);
    fill_content();
    for (size_t k = 0; k < sizeof operations / sizeof *operations; k++) {
        const struct operation *operation = &operations[k];
        if (strcmp(argv[1], operation->name) != 0) continue;
        if (operation->left == ONE) {
            append_handle = openat(directory, "append", O_CREAT | O_WRONLY | O_APPEND, 0644);
            if (append_handle < 0) fail("open", 0);
        }
        uint64_t started = now();
        for (long i = 0; i < count; i++) operation->each(i);
        uint64_t ended = now();
        if (operation->left == ONE) close_one(append_handle, 0);
        if (operation->left == ALL) check_files(count, operation->bytes);
        if (operation->left == NONE) check_files(0, 0);
        if (operation->left == ONE) check_files(1, (off_t)PAGE_BYTES * count);
        printf("%lu\n", (unsigned long)(ended - started));
        return 0;
    }
    fprintf(stderr, "no such operation: %s\n", argv[1]);
    return 2;
}

/*
 * Writes or reads one large file, 1 MiB at a time.
 *
 *   stream write FILE MIB SEED      until fsync has returned
 *   stream read FILE MIB SEED
 *
 * Prints the nanoseconds that the system calls took. The bytes are pseudo-random, differ from MiB to MiB and from
 * seed to seed, and cost almost nothing to make: they neither compress nor repeat. A reader checks the length and
 * the first eight bytes of every page.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, WORDS = MIB / 8, WORDS_PER_PAGE = 512 };

static uint64_t noise[WORDS];
static uint64_t buffer[WORDS] __attribute__((aligned(4096)));

static void fail(const char *what, long mib)
{
    fprintf(stderr, "%s at MiB %ld: %s\n", what, mib, errno ? strerror(errno) : "wrong result");
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t write_file(const char *path, long mibs, uint64_t seed)
{
    int handle = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (handle < 0) fail("create", 0);
    uint64_t started = now();
    for (long m = 0; m < mibs; m++) {
        uint64_t mask = mix(seed ^ ((uint64_t)m << 32));
        for (int i = 0; i < WORDS; i++) buffer[i] = noise[i] ^ mask;
        for (size_t done = 0; done < MIB;) {
            ssize_t n = write(handle, (char *)buffer + done, MIB - done);
            if (n <= 0) fail("write", m);
            done += (size_t)n;
        }
    }
    if (fsync(handle) != 0) fail("fsync", mibs);
    uint64_t ended = now();
    if (close(handle) != 0) fail("close", mibs);
    return ended - started;
}

static uint64_t read_file(const char *path, long mibs, uint64_t seed)
{
    uint64_t started = now();
    int handle = open(path, O_RDONLY);
    if (handle < 0) fail("open", 0);
    for (long m = 0; m < mibs; m++) {
        uint64_t mask = mix(seed ^ ((uint64_t)m << 32));
        for (size_t done = 0; done < MIB;) {
            ssize_t n = read(handle, (char *)buffer + done, MIB - done);
            if (n <= 0) fail("read", m);
            done += (size_t)n;
        }
        for (int i = 0; i < WORDS; i += WORDS_PER_PAGE)
            if (buffer[i] != (noise[i] ^ mask)) fail("content", m);
    }
    if (read(handle, buffer, 1) != 0) fail("end of file", mibs);
    uint64_t ended = now();
    close(handle);
    return ended - started;
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    long mibs = atol(argv[3]);
    uint64_t seed = strtoull(argv[4], NULL, 10);
    for (uint64_t i = 0; i < WORDS; i++) noise[i] = mix(seed + i);
    int writes = strcmp(argv[1], "write") == 0;
    printf("%lu\n", (unsigned long)(writes ? write_file : read_file)(argv[2], mibs, seed));
    return 0;
}

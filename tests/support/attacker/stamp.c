/*
 * The attacker of benches/quarantine.rs: makes one mount and goes on until it is held, and writes into a page that the host reads how far
 * it came. In C, because it maps shared memory and must do nothing else between two stamps.
 *
 *   attacker-stamp clock PAGE          writes CLOCK_MONOTONIC in a loop
 *   attacker-stamp files PAGE DIR      creates files in a loop and counts them
 *   attacker-stamp noise PAGE RATE     makes RATE audited calls of three records a second, for the other container
 * It ends when the host writes 1 into `stop`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct page {
	volatile uint64_t returned_ns; /* the call came back */
	volatile uint64_t last_ns;     /* last sign of life */
	volatile uint64_t count;       /* files, or calls */
	volatile uint64_t stop;
};

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
	if (argc < 3)
		return 2;
	int fd = open(argv[2], O_RDWR);
	struct page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || page == MAP_FAILED) {
		perror(argv[2]);
		return 1;
	}
	if (strcmp(argv[1], "noise") == 0) {
		long rate = argc > 3 ? atol(argv[3]) : 1000;
		uint64_t begin = now();
		while (!page->stop) {
			uint64_t due = (now() - begin) * (uint64_t)rate / 1000000000u;
			while (page->count < due) {
				syscall(SYS_io_uring_setup, 0, NULL);
				page->count++;
			}
			usleep(1000);
		}
		return 0;
	}
	/* Everything is mapped and loaded before the call. */
	page->last_ns = now();
	if (mount("none", "/mnt", "tmpfs", 0, NULL) != 0) {
		perror("mount");
		return 1;
	}
	page->returned_ns = now();
	if (strcmp(argv[1], "clock") == 0) {
		while (!page->stop)
			page->last_ns = now();
		return 0;
	}
	char path[256];
	while (!page->stop) {
		snprintf(path, sizeof path, "%s/%lu", argv[3], (unsigned long)page->count);
		int file = open(path, O_CREAT | O_WRONLY, 0600);
		if (file >= 0)
			close(file);
		page->count++;
		page->last_ns = now();
	}
	return 0;
}

/*
 * Calls that no crate makes for us: by int 0x80 from a 64-bit program, whose registers keep rubbish in their upper halves; by
 * i386's socketcall; with rubbish above an int. Prints what the attacker prints: "result: ok" or "result: <ERRNO>".
 * Nothing here changes anything: mount gets no target, what is opened for writing is not written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define RUBBISH 0xdead00000000UL
/* arch/x86/entry/syscalls/syscall_32.tbl */
#define I386_MOUNT 21
#define I386_PTRACE 26
#define I386_SOCKETCALL 102
#define I386_SOCKET 359

static long int80(long number, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(0) : "memory", "r8", "r9", "r10", "r11");
	/* 32 bits of it are the result. */
	return (int)result;
}

static int said(long result) {
	if (result >= 0)
		printf("result: ok\n");
	else
		printf("result: %s\n", strerrorname_np(-result));
	return 0;
}

static long from_libc(long result) {
	return result < 0 ? -errno : result;
}

/* What a 32-bit call points to must lie below 4 GiB. */
static void *low(size_t size) {
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return memory;
}

static long connect_by_socketcall(const char *path) {
	unsigned int *arguments = low(4096);
	struct sockaddr_un *address = low(4096);
	long fd;

	arguments[0] = AF_UNIX;
	arguments[1] = SOCK_STREAM;
	arguments[2] = 0;
	fd = int80(I386_SOCKETCALL, RUBBISH | 1, (unsigned long)arguments, 0, 0);
	if (fd < 0)
		return fd;
	address->sun_family = AF_UNIX;
	strncpy(address->sun_path, path, sizeof(address->sun_path) - 1);
	arguments[0] = fd;
	arguments[1] = (unsigned int)(unsigned long)address;
	arguments[2] = sizeof(*address);
	return int80(I386_SOCKETCALL, RUBBISH | 3, (unsigned long)arguments, 0, 0);
}

static long bind_everywhere(void) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(4444)};

	return from_libc(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof(address)));
}

static long open_by_link(const char *target) {
	long result;

	unlink("/tmp/link");
	if (symlink(target, "/tmp/link") < 0)
		return -errno;
	result = from_libc(open("/tmp/link", O_WRONLY));
	unlink("/tmp/link");
	return result;
}

int main(int argc, char **argv) {
	const char *what = argc > 1 ? argv[1] : "";
	const char *argument = argc > 2 ? argv[2] : "";
	unsigned long number = strtoul(argument, NULL, 0);

	if (!strcmp(what, "socket"))
		return said(from_libc(syscall(SYS_socket, RUBBISH | number, SOCK_RAW, argc > 3 ? RUBBISH | strtoul(argv[3], NULL, 0) : 0)));
	if (!strcmp(what, "socket32"))
		return said(int80(I386_SOCKET, RUBBISH | number, SOCK_SEQPACKET, 0, 0));
	if (!strcmp(what, "ptrace32"))
		return said(int80(I386_PTRACE, RUBBISH | 16, 1, 0, 0));
	if (!strcmp(what, "mount32"))
		return said(int80(I386_MOUNT, RUBBISH, 0, 0, 0));
	if (!strcmp(what, "connect-socketcall"))
		return said(connect_by_socketcall(argument));
	if (!strcmp(what, "bind"))
		return said(bind_everywhere());
	if (!strcmp(what, "mknod-disk"))
		return said(from_libc(mknod("/tmp/disk", S_IFBLK | 0600, makedev(259, 4095))));
	if (!strcmp(what, "mknod-whiteout"))
		return said(from_libc(mknod("/tmp/whiteout", S_IFCHR, makedev(0, 0))));
	if (!strcmp(what, "open"))
		return said(from_libc(open(argument, O_WRONLY)));
	if (!strcmp(what, "open-by-link"))
		return said(open_by_link(argument));
	fprintf(stderr, "usage: attacker-raw CALL [ARGUMENT...]\n");
	return 2;
}

/*
 * mount_setattr(2) has no safe wrapper in any Rust crate that we use, and the attacker may hold no unsafe code of its own;
 * so this one call is made from C. Prints what the attacker prints: "result: ok" or "result: <ERRNO>".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID};
	const char *path = argc > 1 ? argv[1] : "/";

	if (syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &attr, sizeof(attr)) == 0)
		printf("result: ok\n");
	else
		printf("result: %s\n", strerrorname_np(errno));
	return 0;
}

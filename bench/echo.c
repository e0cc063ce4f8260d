/* The floor of a DNS server: send each query back as its answer, and do nothing else.
 *
 * echo PORT    on 127.0.0.1; says a line once it listens.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { BATCH = 64, LARGEST = 512 };

int main(int argc, char **argv)
{
	static unsigned char packets[BATCH][LARGEST];
	static struct sockaddr_in from[BATCH];
	struct mmsghdr messages[BATCH] = {0};
	struct iovec parts[BATCH];
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	own.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0) {
		perror("echo");
		return 1;
	}
	puts("listening");
	fflush(stdout);
	for (;;) {
		int count;

		for (int i = 0; i < BATCH; i++) {
			parts[i] = (struct iovec){packets[i], LARGEST};
			messages[i].msg_hdr = (struct msghdr){
				.msg_name = &from[i], .msg_namelen = sizeof(from[i]), .msg_iov = &parts[i], .msg_iovlen = 1};
		}
		count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < count; i++) {
			packets[i][2] |= 0x80; /* an answer */
			parts[i].iov_len = messages[i].msg_len;
		}
		if (count > 0)
			sendmmsg(fd, messages, (unsigned int)count, 0);
	}
}

#include "kfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "tree.h"

static char root[TREE_PATH];

static void sizes(void)
{
	static const size_t lengths[] = {0,    1,     2047,  2048,  2049,  4095,  4096,	 4097,
					 8192, 16383, 16384, 16385, 65535, 65536, 65537, 300000};
	static char content[300000];
	pm_buffer buffer = {0};

	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)(i * 2654435761u >> 13);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		char *path = tree_path(root, "sized");
		int fd;

		tree_write_bytes(root, "sized", content, lengths[i]);
		fd = open(path, O_RDONLY);
		for (int again = 0; again < 2; again++) {
			CHECK_INT(pm_read_whole(fd, &buffer), 0);
			CHECK_INT(buffer.len, lengths[i]);
			CHECK(memcmp(buffer.data, content, lengths[i]) == 0);
		}
		close(fd);
		free(path);
	}
	pm_buffer_free(&buffer);
}

/* A kernel file ends a read where the next record does not fit; /proc/kallsyms has records across many pages. */
static void kernel_file(void)
{
	int fd = open("/proc/kallsyms", O_RDONLY);
	pm_buffer buffer = {0};
	size_t total = 0;
	char piece[512];
	ssize_t got;

	if (fd < 0)
		return;
	while ((got = read(fd, piece, sizeof(piece))) > 0)
		total += (size_t)got;
	CHECK_INT(pm_read_whole(fd, &buffer), 0);
	CHECK_INT(buffer.len, total);
	pm_buffer_free(&buffer);
	close(fd);
}

static void errors(void)
{
	int dir = open(root, O_RDONLY | O_DIRECTORY), fd;
	pm_buffer buffer = {0};
	char *fifo = tree_path(root, "fifo"), *link = tree_path(root, "link");

	CHECK_INT(pm_open_at(dir, "nothing"), -ENOENT);
	CHECK_INT(pm_open_at(dir, "sized/below"), -ENOTDIR);
	CHECK_INT(pm_read_whole(-1, &buffer), -EBADF);
	CHECK_INT(pm_read_whole(dir, &buffer), -EISDIR);
	CHECK_INT(symlink("sized", link), 0);
	CHECK_INT(pm_open_at(dir, "link"), -ELOOP);
	/* nobody writes to it: opening does not wait, and it has no position to read at */
	CHECK_INT(mkfifo(fifo, 0600), 0);
	fd = pm_open_at(dir, "fifo");
	CHECK(fd >= 0);
	CHECK_INT(pm_read_whole(fd, &buffer), -ESPIPE);
	close(fd);
	fd = open("/dev/zero", O_RDONLY);
	CHECK_INT(pm_read_whole(fd, &buffer), -EFBIG);
	close(fd);
	close(dir);
	free(fifo);
	free(link);
	pm_buffer_free(&buffer);
}

int main(void)
{
	tree_make(root);
	sizes();
	kernel_file();
	errors();
	tree_remove(root);
	return check_result("kfile");
}

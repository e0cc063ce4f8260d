/* Files in a temporary directory. What cannot be made ends the test. */
#ifndef PYMON_TREE_H
#define PYMON_TREE_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TREE_PATH = 512 };

static inline void tree_die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

static inline void tree_make(char root[TREE_PATH])
{
	const char *base = getenv("TMPDIR");

	snprintf(root, TREE_PATH, "%s/pymon-native-XXXXXX", base ? base : "/tmp");
	if (mkdtemp(root) == NULL)
		tree_die(root);
}

static inline char *tree_path(const char *root, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", root, name) < 0)
		tree_die(name);
	return path;
}

/* Make the directories above `name`. */
static inline void tree_parents(const char *root, const char *name)
{
	char *path = tree_path(root, name);

	for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = 0;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			tree_die(path);
		*slash = '/';
	}
	free(path);
}

static inline void tree_write_bytes(const char *root, const char *name, const char *data, size_t len)
{
	char *path = tree_path(root, name);
	int fd;

	tree_parents(root, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		tree_die(path);
	close(fd);
	free(path);
}

static inline void tree_write(const char *root, const char *name, const char *content)
{
	tree_write_bytes(root, name, content, strlen(content));
}

static inline void tree_link(const char *root, const char *name, const char *target)
{
	char *path = tree_path(root, name);

	tree_parents(root, name);
	unlink(path);
	if (symlink(target, path) < 0)
		tree_die(path);
	free(path);
}

static inline int tree_remove_one(const char *path, const struct stat *stat, int kind, struct FTW *level)
{
	(void)stat;
	(void)kind;
	(void)level;
	return remove(path);
}

static inline void tree_remove(const char *path)
{
	if (nftw(path, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
		tree_die(path);
}

#endif

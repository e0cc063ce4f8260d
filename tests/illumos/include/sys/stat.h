#ifndef ILLUMOS_SYS_STAT_H
#define ILLUMOS_SYS_STAT_H
#include <sys/types.h>
struct stat {
	dev_t st_dev;
	ino_t st_ino;
	mode_t st_mode;
	nlink_t st_nlink;
	uid_t st_uid;
	gid_t st_gid;
	dev_t st_rdev;
	off_t st_size;
};
#define S_ISCHR(mode) (((mode) & 0xF000) == 0x2000)
#define S_ISREG(mode) (((mode) & 0xF000) == 0x8000)
extern int stat(const char *, struct stat *);
extern int fstat(int, struct stat *);
#endif

#include "devices.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "kfile.h"

enum { DEVICES_MAX = 1024, NAME_BYTES = 72 };

struct pm_devices {
	int sysfs;
	int64_t ttl_ns;
	int64_t due_ns;
	uint32_t count;
	pm_buffer buffer;
	struct {
		unsigned major, minor;
		char name[NAME_BYTES];
	} known[DEVICES_MAX];
};

pm_devices *pm_devices_new(int sysfs, int64_t ttl_ns)
{
	pm_devices *devices = calloc(1, sizeof(*devices));

	if (devices) {
		devices->sysfs = sysfs;
		devices->ttl_ns = ttl_ns;
	}
	return devices;
}

void pm_devices_free(pm_devices *devices)
{
	if (devices == NULL)
		return;
	pm_buffer_free(&devices->buffer);
	free(devices);
}

static void look_up(pm_devices *devices, unsigned major, unsigned minor, char name[NAME_BYTES])
{
	char path[64];
	int fd;

	snprintf(name, NAME_BYTES, "%u:%u", major, minor);
	if (devices->sysfs < 0)
		return;
	snprintf(path, sizeof(path), "dev/block/%u:%u/uevent", major, minor);
	fd = openat(devices->sysfs, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (pm_read_whole(fd, &devices->buffer) == 0) {
		const char *p = devices->buffer.data, *end = p + devices->buffer.len, *line_end;

		for (; p < end && (line_end = memchr(p, '\n', (size_t)(end - p))) != NULL; p = line_end + 1)
			if (line_end - p > 8 && line_end - p < NAME_BYTES && memcmp(p, "DEVNAME=", 8) == 0)
				snprintf(name, NAME_BYTES, "/dev/%.*s", (int)(line_end - p - 8), p + 8);
	}
	close(fd);
}

const char *pm_devices_name(pm_devices *devices, unsigned major, unsigned minor)
{
	int64_t now_ns = pm_monotonic_ns();
	uint32_t i = 0;

	if (now_ns > devices->due_ns || devices->count == DEVICES_MAX) {
		devices->count = 0;
		devices->due_ns = now_ns + devices->ttl_ns;
	}
	while (i < devices->count && (devices->known[i].major != major || devices->known[i].minor != minor))
		i++;
	if (i == devices->count) {
		devices->known[i].major = major;
		devices->known[i].minor = minor;
		look_up(devices, major, minor, devices->known[i].name);
		devices->count++;
	}
	return devices->known[i].name;
}

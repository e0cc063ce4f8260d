/* A fuzz target. Built with clang's libFuzzer it is fuzzed; built without, its main runs the files of the directories
 * that it is given, whole and cut off at every place. */
#ifndef PYMON_FUZZ_H
#define PYMON_FUZZ_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                                          \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Take the first byte of the input, 0 when there is none. */
static inline unsigned fuzz_byte(const uint8_t **data, size_t *size)
{
	if (*size == 0)
		return 0;
	*size -= 1;
	return *(*data)++;
}

#ifndef PYMON_LIBFUZZER
static void fuzz_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) < 0 || (size = ftell(file)) < 0) {
		perror(path);
		exit(2);
	}
	rewind(file);
	data = malloc(size ? (size_t)size : 1);
	if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
		perror(path);
		exit(2);
	}
	fclose(file);
	LLVMFuzzerTestOneInput(data, (size_t)size);
	for (size_t cut = (size_t)size; cut > 0 && size < 4096; cut--) {
		uint8_t *part = malloc(cut - 1 ? cut - 1 : 1);
		FUZZ_CHECK(part != NULL);
		memcpy(part, data, cut - 1);
		LLVMFuzzerTestOneInput(part, cut - 1);
		free(part);
	}
	free(data);
}

int main(int argc, char **argv)
{
	unsigned files = 0;

	for (int i = 1; i < argc; i++) {
		DIR *stream = opendir(argv[i]);
		struct dirent *entry;
		char path[4096];

		while (stream && (entry = readdir(stream)) != NULL) {
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			fuzz_file(path);
			files++;
		}
		if (stream)
			closedir(stream);
	}
	printf("%s: %u seeds\n", argv[0], files);
	return files == 0;
}
#endif

#endif

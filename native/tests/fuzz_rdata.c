/* Record data as master files write it. The first byte says of which type. */
#include "fuzz.h"
#include "name.h"
#include "rdata.h"

static const uint16_t types[] = {PM_TYPE_A,   PM_TYPE_AAAA, PM_TYPE_NS,	 PM_TYPE_CNAME,
				 PM_TYPE_PTR, PM_TYPE_SRV,  PM_TYPE_TXT, PM_TYPE_SOA};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint16_t type = types[fuzz_byte(&data, &size) % (sizeof(types) / sizeof(*types))];
	uint8_t out[PM_RDATA_MAX];
	char *text = malloc(size + 1);
	pm_name name;
	int len;

	FUZZ_CHECK(text != NULL);
	if (size)
		memcpy(text, data, size);
	text[size] = 0;
	len = pm_rdata_parse(type, text, size, out);
	FUZZ_CHECK(len == -1 || (len > 0 && len <= PM_RDATA_MAX));
	if (len > 0 && (type == PM_TYPE_NS || type == PM_TYPE_CNAME || type == PM_TYPE_PTR))
		FUZZ_CHECK(pm_name_read(&name, out, (size_t)len) == len);
	if (len > 0 && type == PM_TYPE_SRV)
		FUZZ_CHECK(pm_name_read(&name, out + 6, (size_t)len - 6) == len - 6);
	if (len > 0 && type == PM_TYPE_TXT) {
		int at = 0;
		while (at < len)
			at += 1 + out[at];
		FUZZ_CHECK(at == len);
	}
	free(text);
	return 0;
}

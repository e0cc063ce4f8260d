/* libzonecfg's and libc's: whoever asks for <zone.h> must get this one. */
#define SYSTEM_ZONE_H 1

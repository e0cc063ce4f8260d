/* libkstat's: whoever asks for <kstat.h> must get this one. */
#define SYSTEM_KSTAT_H 1

/* Of a Python for a 64-bit illumos, what its other headers ask for. */
#ifndef ILLUMOS_PYCONFIG_H
#define ILLUMOS_PYCONFIG_H
#define __EXTENSIONS__ 1
#define SIZEOF_INT 4
#define SIZEOF_LONG 8
#define SIZEOF_LONG_LONG 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_TIME_T 8
#define SIZEOF_VOID_P 8
#define SIZEOF_WCHAR_T 4
#define SIZEOF_PTHREAD_T 4
#define ALIGNOF_SIZE_T 8
#define ALIGNOF_LONG 8
#define HAVE_UNISTD_H 1
#define HAVE_STDINT_H 1
#define HAVE_ALLOCA_H 1
#define STDC_HEADERS 1
#endif

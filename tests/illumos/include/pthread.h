#ifndef ILLUMOS_PTHREAD_H
#define ILLUMOS_PTHREAD_H
typedef unsigned int pthread_t;
typedef unsigned int pthread_key_t;
#endif
